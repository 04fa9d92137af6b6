"""A preset with its weights, at work: rows of frames or clips become rows of features."""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from hf_videolang.data.records import name_some
from hf_videolang.hub.loading import align_weights, errors_naming
from hf_videolang.hub.model_version import model_version
from hf_videolang.inference.feature_extractor import ChunkReader, FeatureExtractor, Inputs
from hf_videolang.inference.presets import Preset, find_presets
from hf_videolang.registration import public_names
from hf_videolang.video.decode import Stream
from hf_videolang.video.decoded_video import VideoDecodingError
from hf_videolang.video.filtered_frames import filtered_rows
from hf_videolang.video.interval_sampling import FRAMES_PER_SECOND, clip_positions
from hf_videolang.video.video_inputs import video_source

SLOW = 20  # frames a second


def load_preset(
    name: str,
    weights: Mapping[str, str | Path] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch_size: int = 8,
) -> list[FeatureExtractor]:
    """
    The extractors of a preset, as [`extract_features`] takes them.

    Args:
        name: see [`find_presets`].
        weights: name of a preset, or of its features → folder, file or Hub id of its weights. Without, they come from
            where the preset says.
        device, dtype, batch_size: see [`FeatureExtractor`].

    Raises:
        ValueError: there is no such preset, weights are for another one, or a preset needs weights that are not given.

    Example:
        >>> extractors = load_preset("clip-vit_slowfast", {"slowfast": "slowfast-r50"})
        >>> extract_features(find_shards("my_folder", None), "features", extractors)
    """
    given, found = dict(weights or {}), find_presets(name)
    chosen = [given.pop(preset.name, None) or given.pop(preset.features, None) for preset in found]
    if given:
        raise ValueError(
            f"weights are given for {', '.join(given)}, but {name} is made of "
            f"{' and '.join(preset.features for preset in found)}."
        )
    return [
        PresetExtractor(preset, place, device=device, dtype=dtype, batch_size=batch_size)
        for preset, place in zip(found, chosen)
    ]


class PresetReader(ChunkReader):
    """Decodes the frames of a preset's rows. A note tells that a video has few frames a second."""

    def __init__(self, preset: Preset, batch_size: int):
        self.preset, self.makes_rows, self.batch_size = preset, True, batch_size

    def __call__(self, video: Any) -> Iterator[tuple[int, Inputs]]:
        self.note = None
        source, _, _ = video_source(video)
        edge, crop = self.preset.shortest_edge, self.preset.crop and (self.preset.crop, self.preset.crop)
        for first, frames in filtered_rows(source, self._choose, edge, crop or None, self.batch_size):
            yield first, {"frames": torch.from_numpy(frames)}

    def _choose(self, stream: Stream) -> np.ndarray:
        cut, seconds = stream.whole, self.preset.seconds_per_row
        if cut.ticks is None:
            raise VideoDecodingError(stream.name, "its frame rate is unknown; make a video file of the pictures")
        if self.preset.frames_per_row > 1 and cut.frame_rate is not None and cut.frame_rate < SLOW:
            length = round(seconds * FRAMES_PER_SECOND)
            seen = clip_positions(cut.frame_rate, length, self.preset.frames_per_row)[-1] + 1
            self.note = (
                f"it has {float(cut.frame_rate):.3g} frames a second, so {self.preset.features} sees the first "
                f"{seen / FRAMES_PER_SECOND:.2f} s of each {seconds:g} s"
            )
        return self.preset.rows(cut)


class PresetExtractor(FeatureExtractor):
    """
    See [`load_preset`].

    Args:
        preset: what is extracted.
        weights: a model folder, a Hub id or, for a model of torchvision, a file of `torch.save`; `None` takes the
            preset's.

    Raises:
        ValueError: there are no weights, or they are of another model.
        OSError: the weights cannot be read.
    """

    def __init__(
        self,
        preset: Preset,
        weights: str | Path | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        batch_size: int = 8,
    ):
        place = weights or preset.weights
        if place is None:
            raise ValueError(
                f"{preset.name} needs weights: convert the released file with `hf-videolang convert`, and give the "
                f"folder as --extractor {preset.features}=DIR."
            )
        model, version = _load(preset, str(place), is_given=weights is not None)
        self.preset, self.makes_rows, self.normalize = preset, True, preset.unit_rows
        self.model, self.device, self.dtype = model.eval().to(device, dtype), device, dtype
        self.reader = PresetReader(preset, batch_size)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (preset.image_mean, preset.image_std)
        )
        side = preset.crop or preset.shortest_edge
        probe = self({"frames": torch.zeros(1, preset.frames_per_row, side, side, 3, dtype=torch.uint8)})
        pixels = f"FFmpeg's scale filter to shorter side {preset.shortest_edge}"
        self.facts = {
            **version,
            "features": preset.features,
            "rows_per_second": 1 / preset.seconds_per_row,
            "width": probe.shape[1],
            "normalized": preset.unit_rows,
            "dtype": str(dtype).removeprefix("torch."),
            "frames": f"{preset.frames_per_row} every {preset.seconds_per_row:g} s by {preset.name}",
            "pixels": pixels + (f", {preset.crop}x{preset.crop} centre" if preset.crop else ", whole frame"),
        }

    def encode(self, inputs: Inputs) -> torch.Tensor:
        pixels = inputs["frames"].movedim(-1, -3).float().div_(255).sub_(self._mean).div_(self._std).to(self.dtype)
        run = getattr(self.model, self.preset.method)
        output = run(pixels if self.preset.frames_per_row > 1 else pixels[:, 0])
        return getattr(output, "pooler_output", output)


def _load(preset: Preset, place: str, is_given: bool) -> tuple[Any, dict[str, Any]]:
    """The model, and what [`model_version`] says of it."""
    module = public_names().get(preset.model_class, "transformers")
    model_class = getattr(import_module(module), preset.model_class, None)
    if model_class is None:
        return _load_torchvision(preset, place, is_given)
    with errors_naming(place):
        config_class = model_class.config_class
        kind, needed = config_class.get_config_dict(place)[0].get("model_type"), config_class.model_type
        if kind != needed:  # transformers would first list every weight
            raise ValueError(f"{place} holds a model of type {kind!r}; {preset.name} needs one of type {needed!r}.")
        model, report = model_class.from_pretrained(
            place, dtype=torch.float32, output_loading_info=True, **preset.config
        )
    if report["missing_keys"]:
        raise ValueError(
            f"{place} lacks weights of {preset.model_class}, such as {name_some(sorted(report['missing_keys']), 3)}."
        )
    return align_weights(model), model_version(place, model.config)


def _load_torchvision(preset: Preset, place: str, is_given: bool) -> tuple[Any, dict[str, Any]]:
    """Without its last layer, whose input is the mean of the last stage over height and width."""
    if is_given:
        model, file = torchvision.models.get_model(preset.model_class, **preset.config), _weight_file(Path(place))
        try:
            model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{file} holds no weights of torchvision's {preset.model_class}: {error}") from error
        version = {"model": file.name, "version": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"}
    else:
        model = torchvision.models.get_model(preset.model_class, weights=place, **preset.config)
        version = {"model": f"torchvision {preset.model_class}", "version": place}
    model.fc = torch.nn.Identity()
    return model, version


def _weight_file(place: Path) -> Path:
    files = [place] if place.is_file() else sorted(place.glob("*.pth"))
    if len(files) != 1:
        raise FileNotFoundError(f"{place} is no file of weights, nor a folder with a single .pth file.")
    return files[0]
