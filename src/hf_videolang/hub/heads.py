"""The heads of retrieval and captioning: which models have them, and how a model gets a new one."""

from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_videolang.hub.loading import align_weights, class_with_head

RETRIEVAL_HEAD, CAPTION_HEAD = "ForVideoTextRetrieval", "ForVideoCaptioning"


def check_compares(model: PreTrainedModel) -> None:
    """Raises `ValueError` if a model does not; the message names the class of its family that does."""
    if not (hasattr(model, "get_text_features") or hasattr(model, "score_pairs")):
        raise _without(model, RETRIEVAL_HEAD, "does not compare texts with videos")


def check_finds_moments(model: PreTrainedModel) -> None:
    """Raises `ValueError` if a model does not; the message names the class of its family that does."""
    if not hasattr(model, "frame_similarity"):
        raise _without(model, RETRIEVAL_HEAD, "finds no moments in videos")


def check_writes_captions(model: PreTrainedModel) -> None:
    """Raises `ValueError` if a model does not; the message names the class of its family that does."""
    if not hasattr(model, "get_memory"):
        raise _without(model, CAPTION_HEAD, "writes no captions")


def _without(model: PreTrainedModel, head: str, what: str) -> ValueError:
    other = class_with_head(model, head)
    remedy = f"; a {other.__name__} does" if other else ""
    return ValueError(f"{model.name_or_path} is a {type(model).__name__}, which {what}{remedy}.")


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


def with_retrieval_head(model: PreTrainedModel) -> PreTrainedModel:
    """
    The base of a model under a new head for retrieval.

    Returns:
        The same model, if it has this head or its family has none, as two-tower systems.

    Example:
        >>> model = with_retrieval_head(ClipBertForPreTraining.from_pretrained("org/clipbert-base"))
    """
    head_class = class_with_head(model, RETRIEVAL_HEAD)
    if head_class is None or type(model) is head_class:
        return model
    return new_head(head_class, model, deepcopy(model.config))


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
