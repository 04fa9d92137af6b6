"""A model and its processor from one folder or Hub id, with the checks that the Auto classes leave out."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor, PreTrainedConfig, PreTrainedModel

from hf_videolang.registration import public_names


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
    model: str | Path,
    num_frames: int | None = None,
    max_length: int | None = None,
    head: str | None = None,
    **video_settings: Any,
) -> tuple[PreTrainedModel, Any]:
    """
    Load a model, in float32 and in evaluation mode, and its processor. Mixed precision then casts where it is safe.

    The model has the head that it was saved with: the class is the first that `architectures` of its config names.

    Args:
        model: folder or Hub id of model and processor.
        num_frames, max_length (*optional*): frames of a clip and tokens of a text, in place of the processor's own
            numbers.
        head (*optional*): of a folder with several heads the one to load, by the end of its class's name, such as
            `"ForVideoCaptioning"`.
        video_settings (*optional*): further settings of the video processor, such as `num_clips`; `None` leaves its
            own. `size` is a number of pixels.

    Raises:
        ValueError: there is no processor of videos and texts, weights are missing, the processor has no such setting,
            `max_length` exceeds the model's position table, or the tokenizer has more words than the model.
        OSError: the folder or repository does not exist, or it holds no model.

    Example:
        >>> model, processor = load_model_and_processor("org/clip-vip-b16", num_frames=12)
    """
    with errors_naming(model):
        processor = AutoProcessor.from_pretrained(model)
    if not (hasattr(processor, "input_protocol") and hasattr(processor, "tokenizer")):
        raise ValueError(
            f"{model} holds a {type(processor).__name__}, not a processor of videos and texts; save one there with "
            "processor.save_pretrained(folder)."
        )
    loaded = load_model(model, head)
    text_config = loaded.config.get_text_config()
    words = text_config.vocab_size
    if len(processor.tokenizer) > words:
        raise ValueError(
            f"{model} has a tokenizer of {len(processor.tokenizer)} words and a model of {words}; save the tokenizer "
            "there that the model was trained with."
        )
    set_video_settings(processor, num_frames=num_frames, **video_settings)
    if max_length is not None:
        limit = text_config.max_position_embeddings
        if not 2 <= max_length <= limit:
            raise ValueError(f"max_length is {max_length}; expected 2 to {limit}, the rows of the position table.")
        processor.max_length = max_length
    return loaded, processor


def load_model(model: str | Path, head: str | None = None) -> PreTrainedModel:
    """A model without its processor; otherwise as [`load_model_and_processor`]."""
    with errors_naming(model):
        config = AutoConfig.from_pretrained(model)
    return align_weights(model_class(config, head).from_pretrained(model, dtype=torch.float32))


def align_weights(model: Any) -> Any:
    """The same model. Memory-mapped weights may be unaligned; then the last bits of products differ between runs."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model


def load_video_processor(model: str | Path) -> Any:
    """The part of a model's processor that reads videos. A folder may have no other."""
    with errors_naming(model):
        return AutoVideoProcessor.from_pretrained(model)


def model_class(config: PreTrainedConfig, head: str | None = None) -> Any:
    """
    The class of the package that `config.architectures` names: the one with the head, or else the first. Where it
    names none, `AutoModel`.
    """
    names = config.architectures or [""]
    name = next((one for one in names if head and one.endswith(head)), names[0])
    module = public_names().get(name)
    return getattr(import_module(module), name) if module else AutoModel


def class_with_head(model: PreTrainedModel, head: str) -> Any:
    """The class of the model's family whose name ends so, such as `"ForVideoTextRetrieval"`; `None` if it has none."""
    name = type(model).__name__.split("For")[0].removesuffix("Model") + head
    return getattr(import_module(public_names()[name]), name) if name in public_names() else None


def set_video_settings(processor: Any, **settings: Any) -> None:
    """
    Change what a processor does with videos; `None` leaves its own setting. See [`load_model_and_processor`].

    Raises:
        ValueError: the processor has no such setting, or a number is below 1.
    """
    video_processor: Any = getattr(processor, "video_processor", None)
    for name, value in settings.items():
        if value is None:
            continue
        if not hasattr(video_processor, name):
            raise ValueError(f"{name} is {value}, but the model's processor has no such setting; leave it out.")
        if isinstance(value, (int, float)) and value < 1 and name != "fps":
            raise ValueError(f"{name} is {value}; expected at least 1.")
        setattr(video_processor, name, dict.fromkeys(dict(video_processor.size), value) if name == "size" else value)
    if settings.get("num_frames") is not None and not hasattr(video_processor, "num_clips"):
        video_processor.fps = None  # it would take precedence; of a system with clips it tells how long one is
