"""The head with which a model scores pairs of text and video, where its family has one."""

from importlib import import_module

import torch
from transformers import PreTrainedModel

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
    new = getattr(import_module(public_names()[name]), name)._from_config(model.config, dtype=torch.float32).eval()
    new.base_model.load_state_dict(model.base_model.state_dict())
    return new
