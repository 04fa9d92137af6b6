"""What the collators of all tasks share: reading clips or their features, replacing broken ones, and batching them."""

import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import get_worker_info

from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.models.shared.batch_clips import batch_clips
from hf_videolang.video import VideoDecodingError

logger = logging.getLogger(__name__)

LEAD = 2  # clips that are decoded while the caller is busy: more need memory and save no time
MAX_REPLACEMENTS = 10  # the original tries as often for one sample

Policy = Literal["raise", "skip", "replace"]
Item = TypeVar("Item")
Result = TypeVar("Result")


def read_first_whole(
    read: Callable[[Item], Result], candidates: Iterable[Item], policies: Mapping[type[Exception], Policy]
) -> tuple[Result | None, Exception | None]:
    """
    Reads a clip, or the first of its replacements that is whole.

    Args:
        read: reads one candidate, and raises an error with a policy if it is broken.
        candidates: the clip, then its replacements, of which at most `MAX_REPLACEMENTS` are tried.
        policies: what to do by kind of error: "raise" it, "skip" the clip, or "replace" it by the next candidate.

    Returns:
        What was read (`None`: skipped), and the error of the clip itself (`None`: it was whole).

    Raises:
        The error of a broken clip under "raise", or that of the first candidate if all of them are broken.
    """
    first_error = None
    for candidate in islice(candidates, 1 + MAX_REPLACEMENTS):
        try:
            return read(candidate), first_error
        except tuple(policies) as error:
            policy = next(policy for kind, policy in policies.items() if isinstance(error, kind))
            if policy == "raise":
                raise
            logger.warning("%s a clip: %s", "Skipping" if policy == "skip" else "Replacing", error)
            first_error = first_error or error
            if policy == "skip":
                return None, first_error
    assert first_error is not None  # there is at least one candidate
    raise first_error


@contextmanager
def errors_naming_clip(name: str) -> Iterator[None]:
    """Names the clip in a `VideoDecodingError`, since the bytes of a video have no name of their own."""
    try:
        yield
    except VideoDecodingError as error:
        raise VideoDecodingError(name, error.reason, error.timestamp) from error


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields results in order while a thread makes the next `LEAD`: decoding is the work of another process."""
    thread, coming = ThreadPoolExecutor(1), deque[Future[Result]]()
    try:
        for item in items:
            coming.append(thread.submit(read, item))
            if len(coming) > LEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def process_clips(processor: Any, clips: Iterable[torch.Tensor], limit: int) -> dict[str, torch.Tensor]:
    """
    Processes sampled clips one by one, as they come, to the batch that the processor would make of all of them.

    Args:
        processor: its video processor turns frames into the model's input.
        clips: uint8 `[frames, 3, height, width]`, at least one.
        limit: the number of clips, or an upper bound of it.

    Returns:
        See [`batch_clips`]. The mask has a value for each frame, or for as many as the model encodes together.

    Raises:
        ValueError: the clips differ in height or width after the resize.
    """
    frames_per_step = getattr(processor.video_processor, "frames_per_clip", 1)
    options = {"do_sample_frames": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    processed = (processor.video_processor(videos=[clip], **options)["pixel_values_videos"][0] for clip in clips)
    return batch_clips(processed, limit, _new_empty, frames_per_step)


def reads_subtitles(processor: Any) -> bool:
    """Whether the model reads subtitles beside features."""
    return "subtitles" in inspect.signature(type(processor).__call__).parameters


def reads_features(processor: Any) -> bool:
    """Whether the model reads features of videos."""
    return "video_features" in inspect.signature(type(processor).__call__).parameters


def may_read_frames(processor: Any) -> bool:
    """Whether the model reads features, and also frames if its folder holds what makes features of them."""
    return reads_features(processor) and hasattr(processor, "video_processor")


@torch.no_grad()
def check_pixels(model: Any, processor: Any) -> None:
    """
    Shows a model the shape of a video, before the work begins. Nothing is computed.

    Args:
        model, processor: what will read videos.

    Raises:
        ValueError: the model has no positions for frames of this size, or reads features alone.
    """
    black = torch.zeros(getattr(processor.video_processor, "num_clips", 1), 3, 8, 8, dtype=torch.uint8)
    shape = process_clips(processor, [black], limit=1)["pixel_values_videos"].shape
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.get_video_features(torch.empty(shape))


@torch.no_grad()
def check_features(features: FeatureStore, model: Any, processor: Any) -> None:
    """
    Shows a model one row of a store, before the work begins.

    Args:
        features: the store.
        model, processor: what will read it.

    Raises:
        ValueError: the model reads pixels, or rows of another width, norm or rate than the store has, or features of
            another name. Where one of the names is unknown, there is a warning.
        MissingFeaturesError: the store has no row.
    """
    if not reads_features(processor):
        raise ValueError(
            f"{features.folder} holds features, but {type(model).__name__} reads frames; leave the features out."
        )
    frames_per_row = getattr(getattr(processor, "video_processor", None), "frames_per_clip", None)
    seconds_per_row = getattr(processor, "seconds_per_feature", None)
    if frames_per_row is not None or seconds_per_row is not None:
        expected = 1 / seconds_per_row if seconds_per_row else processor.video_processor.fps / frames_per_row
        if features.rows_per_second is None or abs(features.rows_per_second - expected) > 1e-3:
            raise ValueError(
                f"{features.folder} has {features.rate}, but the model reads {expected:g} a second. Extract the "
                "features with the model that it was trained with."
            )
    if hasattr(processor, "features"):  # it knows what the model was trained on, or that this is unknown
        _check_name(features, processor.features)
    wants_unit = getattr(model.config, "normalize_features", None)
    if wants_unit is not None and any(extractor["normalized"] != wants_unit for extractor in features.extractors):
        holds, reads, option = ("raw", "unit", "without") if wants_unit else ("unit", "raw", "with")
        raise ValueError(
            f"{features.folder} holds {holds} rows ({features.description}), but the model's config has "
            f"normalize_features={wants_unit}: it reads {reads} rows. Extract them {option} --raw, or import others."
        )
    rows = features.first_rows()[:1]
    try:
        model.base_model(**processor(video_features=rows))  # a head may also need a text
    except ValueError as error:
        raise ValueError(f"{features.folder} does not fit the model: {error}") from error


def _check_name(features: FeatureStore, trained_on: str | None) -> None:
    if trained_on is not None and trained_on == features.name:
        return
    both = (
        f"{features.folder} holds features {features.name or 'of unknown name'} ({features.description}), and the "
        f"model was trained on {trained_on or 'unknown ones'}"
    )
    if trained_on and features.name:
        raise ValueError(f"{both}. Extract or import the features that it was trained on.")
    logger.warning("%s; they may not fit.", both)


def _new_empty(picture: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """An empty batch. In a worker it lies in shared memory, since moving it there later would stop all other work."""
    if get_worker_info() is None:
        return picture.new_empty(shape)
    num_bytes = torch.Size(shape).numel() * picture.element_size()
    storage = torch.UntypedStorage._new_shared(num_bytes)  # as in torch's own default_collate
    return picture.new_empty(0).set_(storage).view(shape)
