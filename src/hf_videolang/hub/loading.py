"""A model and its processor from one folder or Hub id, with the checks that the Auto classes leave out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, PreTrainedModel


@contextmanager
def errors_naming(model: str | Path) -> Iterator[None]:
    """Add the model's name to an error. Without a network, transformers says only that the Hub is out of reach."""
    try:
        yield
    except OSError as error:
        if str(model) in str(error):
            raise
        reason = " ".join(str(error).split())
        raise OSError(f"{model} is neither a folder nor a model that the Hub can give now: {reason}") from error


def load_model_and_processor(
    model: str | Path, num_frames: int | None = None, max_length: int | None = None
) -> tuple[PreTrainedModel, Any]:
    """
    Load a model, in float32 and in evaluation mode, and its processor. Mixed precision then casts where it is safe.

    Args:
        model: folder or Hub id of model and processor.
        num_frames, max_length (*optional*): frames of a clip and tokens of a text, in place of the processor's own
            numbers.

    Raises:
        ValueError: there is no processor of videos and texts, weights are missing, or `max_length` exceeds the model's
            position table.
        OSError: the folder or repository does not exist, or it holds no model.

    Example:
        >>> model, processor = load_model_and_processor("org/clip-vip-b16", num_frames=12)
    """
    with errors_naming(model):
        processor = AutoProcessor.from_pretrained(model)
    if not (hasattr(processor, "video_processor") and hasattr(processor, "tokenizer")):
        raise ValueError(
            f"{model} holds a {type(processor).__name__}, not a processor of videos and texts; save one there with "
            "processor.save_pretrained(folder)."
        )
    loaded = AutoModel.from_pretrained(model, dtype=torch.float32)
    for tensor in (*loaded.parameters(), *loaded.buffers()):
        # Memory-mapped weights may be unaligned, and then the last bits of a product differ from run to run.
        tensor.data = tensor.data.clone()
    if num_frames is not None:
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; expected at least 1.")
        processor.video_processor.num_frames = num_frames
        processor.video_processor.fps = None  # it would take precedence
    if max_length is not None:
        limit = loaded.config.get_text_config().max_position_embeddings
        if not 2 <= max_length <= limit:
            raise ValueError(f"max_length is {max_length}; expected 2 to {limit}, the rows of the position table.")
        processor.max_length = max_length
    return loaded, processor
