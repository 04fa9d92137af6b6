"""A new head on the base of a model, whatever the task."""

from typing import Any

import torch
from transformers import PreTrainedModel


def new_head(head_class: Any, model: PreTrainedModel, config: Any) -> PreTrainedModel:
    """
    The base of a model under a new head, in float32 and in evaluation mode. torch's random generator decides its
    weights.

    Args:
        head_class: class of the result. Its `head_settings`, if there are some, are fields of the config that a model
            with another head may have otherwise.
        model: with any head, or with none.
        config: of the result; it is changed.
    """
    for name, value in getattr(head_class, "head_settings", {}).items():
        setattr(config, name, value)
    new = head_class._from_config(config, dtype=torch.float32).eval()
    new.base_model.load_state_dict(model.base_model.state_dict())
    return new
