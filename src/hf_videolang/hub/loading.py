"""A model and its processor from one folder or Hub id, with the checks that the Auto classes leave out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, PreTrainedModel


@contextmanager
def errors_naming(model: str | Path) -> Iterator[None]:
    """Name the model in an error about it: without the Hub, transformers says only that it cannot be reached."""
    try:
        yield
    except OSError as error:
        if str(model) in str(error):
            raise
        told = " ".join(str(error).split())
        raise OSError(f"{model} is no folder, and no model of the Hub that can be loaded now: {told}") from error


def load_model_and_processor(
    model: str | Path, num_frames: int | None = None, max_length: int | None = None
) -> tuple[PreTrainedModel, Any]:
    """
    The model in float32 (mixed precision casts where it is safe) and in evaluation mode, and its processor.

    Args:
        model: folder or Hub id with model and processor.
        num_frames, max_length: frames of a clip and tokens of a text in place of the processor's own; saved with it.

    Raises:
        ValueError: there is no processor of videos and texts, weights are missing, or the text is longer than the
            model's position table.
        OSError: there is no such folder or repository, or it holds no model.
    """
    with errors_naming(model):
        processor = AutoProcessor.from_pretrained(model)
    if not (hasattr(processor, "video_processor") and hasattr(processor, "tokenizer")):
        raise ValueError(
            f"{model} holds a {type(processor).__name__} but no processor of videos and texts; save one there with "
            "processor.save_pretrained(folder)."
        )
    loaded = AutoModel.from_pretrained(model, dtype=torch.float32)
    for tensor in (*loaded.parameters(), *loaded.buffers()):
        # Now and then a weight lies as unaligned as in its file, and then the last bits of a product differ.
        tensor.data = tensor.data.clone()
    if num_frames is not None:
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; expected at least 1.")
        processor.video_processor.num_frames = num_frames
        processor.video_processor.fps = None  # which would win
    if max_length is not None:
        limit = loaded.config.text_config.max_position_embeddings
        if not 2 <= max_length <= limit:
            raise ValueError(f"max_length is {max_length}; expected 2 to {limit}, the rows of the position table.")
        processor.max_length = max_length
    return loaded, processor
