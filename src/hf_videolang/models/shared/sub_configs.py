"""What the configs with several parts share."""

from copy import deepcopy
from typing import Any

from transformers.configuration_utils import PreTrainedConfig


def check_heads(hidden_size: int, num_attention_heads: int, part: str = "") -> None:
    """Raises `ValueError` if the width of a part is not a multiple of the number of its heads."""
    if hidden_size % num_attention_heads:
        raise ValueError(
            f"{part}hidden_size is {hidden_size} and num_attention_heads is {num_attention_heads}; "
            "the width must be a multiple of the number of heads."
        )


def own_config(config_class: type, value: Any) -> Any:
    """A part of these values: a config of its own, since two models never share one."""
    return deepcopy(value) if isinstance(value, PreTrainedConfig) else config_class(**(value or {}))
