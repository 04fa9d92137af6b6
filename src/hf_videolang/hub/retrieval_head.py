"""The head with which a model scores pairs of text and video, where its family has one."""

from copy import deepcopy

from transformers import PreTrainedModel

from hf_videolang.hub.loading import class_with_head
from hf_videolang.hub.new_head import new_head

RETRIEVAL_HEAD = "ForVideoTextRetrieval"


def with_retrieval_head(model: PreTrainedModel) -> PreTrainedModel:
    """
    The base of a model under a new head for retrieval. torch's random generator decides the weights of the head.

    Returns:
        The same model, if it has this head or its family has none, as two-tower systems.

    Example:
        >>> model = with_retrieval_head(ClipBertForPreTraining.from_pretrained("org/clipbert-base"))
    """
    head_class = class_with_head(model, RETRIEVAL_HEAD)
    if head_class is None or type(model) is head_class:
        return model
    return new_head(head_class, model, deepcopy(model.config))
