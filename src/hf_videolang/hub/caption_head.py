"""The head with which a model writes captions."""

from typing import Any

import torch
from transformers import PreTrainedModel

from hf_videolang.hub.loading import align_weights, class_with_head

CAPTION_HEAD = "ForVideoCaptioning"


def with_caption_head(model: PreTrainedModel, processor: Any) -> tuple[PreTrainedModel, str]:
    """
    The model with a head for captions. What its folder lacks of the head starts new: torch's random generator decides
    it. The words' head of pre-training, where the folder has one, is kept. A new head decodes as published, and writes
    no row of its vocabulary beyond the processor's `caption_tokenizer`.

    Returns:
        The same model, if it has this head; and a note for the user if the head is new.

    Raises:
        ValueError: no model of its family writes captions.

    Example:
        >>> model, note = with_caption_head(*load_model_and_processor("org/hero-tv-ht100"))
    """
    head_class = class_with_head(model, CAPTION_HEAD)
    if head_class is None:
        raise ValueError(f"{model.name_or_path} is a {type(model).__name__}, whose system writes no captions.")
    if isinstance(model, head_class):
        return model, ""
    new: Any = head_class.from_pretrained(model.name_or_path, new_head=True, config=model.config, dtype=torch.float32)
    new.generation_config = new.published_decoding(new.config, processor.caption_tokenizer)
    return align_weights(new).eval(), "note: the head for captions is new."
