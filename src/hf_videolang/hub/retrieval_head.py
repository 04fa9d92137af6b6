"""The head with which a model scores pairs of text and video, where its family has one."""

from copy import deepcopy
from importlib import import_module

from transformers import PreTrainedModel

from hf_videolang.hub.new_head import new_head
from hf_videolang.registration import public_names


def with_retrieval_head(model: PreTrainedModel) -> PreTrainedModel:
    """
    The base of a model under a new head for retrieval. torch's random generator decides the weights of the head.

    Returns:
        The same model, if it has this head or its family has none, as two-tower systems.

    Example:
        >>> model = with_retrieval_head(ClipBertForPreTraining.from_pretrained("org/clipbert-base"))
    """
    name = type(model).__name__.split("For")[0].removesuffix("Model") + "ForVideoTextRetrieval"
    if name not in public_names() or type(model).__name__ == name:
        return model
    return new_head(getattr(import_module(public_names()[name]), name), model, deepcopy(model.config))
