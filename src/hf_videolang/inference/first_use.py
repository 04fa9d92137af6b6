"""Features that a store lacks are extracted when a model first needs them, by the extractors that the model names."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from hf_videolang.data.batches.clip_reader import check_features
from hf_videolang.data.records import Record, name_some
from hf_videolang.data.shards.open_shards import VideoFolderShard
from hf_videolang.data.stores.feature_store import FeatureStore, MissingFeaturesError, read_rows
from hf_videolang.data.stores.part_store import PROVENANCE
from hf_videolang.data.video_files import video_size
from hf_videolang.hub.loading import load_model, load_video_processor
from hf_videolang.inference.extraction import extract_features
from hf_videolang.inference.feature_extractor import FeatureExtractor
from hf_videolang.inference.preset_extractor import load_preset
from hf_videolang.inference.presets import find_presets

logger = logging.getLogger(__name__)


def complete_features(
    folder: str | Path,
    records: Sequence[Record],
    processor: Any,
    weights: Mapping[str, str] | None = None,
    *,
    cpu: bool = False,
    num_workers: int = 0,
) -> FeatureStore:
    """
    Open a feature store, and extract what it lacks: of new videos, and of files whose size has changed.

    Every process calls this; they share the work. The store then knows a video that does not decode as broken. What
    cannot be extracted remains missing: there is no file, or the store holds features of another name.

    Args:
        folder: the store, new or to be continued.
        records: the videos that a model needs.
        processor: of the model; `processor.features` names the extractors, such as `"clip-vit_slowfast"`.
        weights (*optional*): name of an extractor → folder of its weights, where they are not those of the preset, or
            where the extractor is no preset but a model. Without `processor.features` these names are taken.
        cpu (defaults to `False`): do not use a GPU.
        num_workers (defaults to 0): decoding processes of each process.

    Raises:
        MissingFeaturesError: there is neither a store nor a file to extract from.
        ValueError: there is neither a store nor a name of features, no preset makes them, or the store was made in
            another way.
        OSError: weights cannot be read.

    Example:
        >>> records, _ = find_dataset("my_folder").read("train")
        >>> store = complete_features("features", records, processor, {"slowfast": "slowfast-r50"})
    """
    folder, weights = Path(folder), weights or {}
    name = getattr(processor, "features", None) or "_".join(weights)
    store = FeatureStore(folder) if (folder / PROVENANCE).is_file() else None
    lacking = [
        record
        for record in records
        if record.has_video and (store is None or not store.has(record.video_id, video_size({"path": record.path})))
    ]
    if store is not None and not (lacking and store.name == name):
        return store
    if not name:
        raise ValueError(
            f"The model does not say which features it was trained on, and {folder} is not a store. Give stored ones "
            "with --features (`hf-videolang extract` makes them), or the model that makes them: --extractor NAME=DIR."
        )
    if not lacking:
        raise MissingFeaturesError(
            f"{folder} is not a store, and there is no file to extract features from: "
            f"{name_some([record.path or record.video_id for record in records])}."
        )
    state = PartialState(cpu=cpu or not torch.accelerator.is_available())
    shard = VideoFolderShard(folder, "lacking", lacking)
    report = extract_features([shard], folder, _extractors(name, weights, state.device), num_workers=num_workers)
    for source, note in report.notes.items():
        logger.warning("%s: %s", source, note)
    return report.store


def _extractors(name: str, weights: Mapping[str, str], device: torch.device) -> Sequence[FeatureExtractor]:
    try:
        find_presets(name)
    except ValueError as error:
        if name not in weights:
            raise ValueError(
                f"The model was trained on features called {name}: {error} Give stored ones with --features, or the "
                f"model that makes them: --extractor {name}=DIR."
            ) from error
        extractor = FeatureExtractor(load_model(weights[name]), load_video_processor(weights[name]), device)
        if name != extractor.facts["model"]:  # which names the features otherwise
            extractor.facts["features"] = name
        return [extractor]
    return load_preset(name, weights, device=device)


@contextmanager
def features_of_files(
    paths: Sequence[Path],
    model: Any,
    processor: Any,
    features: Path | None,
    weights: Mapping[str, str] | None = None,
    *,
    cpu: bool = False,
) -> Iterator[tuple[Callable[[Path], Tensor], FeatureStore | None]]:
    """
    The features of single video files; a context, since a store may be temporary.

    Args:
        paths: the videos.
        model, processor: what reads the features.
        features: an .npy or .npz of the only video; or a store, new or to be continued. With `None` it is temporary.
        weights, cpu: see [`complete_features`].

    Yields:
        What gives the features of a path, `[rows, width]`, and the store, if there is one.

    Raises:
        See [`complete_features`] and `check_features`. What is yielded raises `VideoDecodingError` for a broken video.
    """
    if features is not None and (features.is_file() or features.suffix in (".npy", ".npz")):
        if len(paths) > 1:
            raise ValueError(f"{features} has the features of one video, but there are {len(paths)}; give a store.")
        rows = read_rows(features)
        yield lambda path: rows, None
        return
    with TemporaryDirectory() if features is None else nullcontext(features) as folder:
        records = _records(paths, Path(folder))
        store = complete_features(folder, records, processor, weights, cpu=cpu, num_workers=min(2, len(paths) - 1))
        ids = {record.path: record.video_id for record in records}
        with suppress(MissingFeaturesError):  # all videos are broken: reading them says so
            check_features(store, model, processor)
        yield lambda path: store.features(ids[path]), store


def _records(paths: Sequence[Path], folder: Path) -> list[Record]:
    """With the ids by which a store has these files; otherwise their whole paths."""
    store = FeatureStore(folder) if (folder / PROVENANCE).is_file() else None
    records = []
    for path in paths:
        video_id = None if store is None else store.id_of(path.absolute())
        if store is None or video_id is None or not store.has(video_id, video_size({"path": path})):
            video_id = path.absolute().as_posix()
        records.append(Record(video_id, path))
    return records
