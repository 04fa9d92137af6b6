"""Find moments by a sentence in one subtitled video or many. Videos are encoded once; queries then take a moment."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import pad

from hf_videolang.data.stores.part_store import PartStore
from hf_videolang.inference.first_use import features_of_files
from hf_videolang.inference.moment_ranking import MomentRanking, find_moments

BATCH_SIZE = 16  # windows that are encoded together
WINDOW_SECONDS = 60.0  # of a video longer than the model reads


@dataclass(frozen=True)
class FoundMoment:
    """A moment of a video, in seconds of its file. Scores are comparable within one query."""

    video: str
    start: float
    end: float
    score: float


def encode_video(model: Any, processor: Any, features: Tensor, subtitles: Any) -> dict[str, Tensor]:
    """
    Args:
        model: finds moments.
        processor: of the model. A video that is longer than the model reads is divided into windows of a minute.
        features: `[rows, width]`.
        subtitles: what the processor takes.

    Returns:
        `frames` `[windows, rows, width]` and `mask` `[windows, rows]`, as the model encodes them, and `starts`
        `[windows]`, the second at which each window starts.
    """
    windows = [{"video_features": features, "subtitles": subtitles, "start": 0.0}]
    if len(features) > processor.max_frames:
        windows = processor.windows(features, subtitles, WINDOW_SECONDS)
    frames, masks = [], []
    for first in range(0, len(windows), BATCH_SIZE):
        some = windows[first : first + BATCH_SIZE]
        inputs = processor(
            video_features=[window["video_features"] for window in some],
            subtitles=[window["subtitles"] for window in some],
        )
        with torch.inference_mode():
            encoded = model.get_video_features(**inputs.to(model.device))
        frames.append(encoded.frame_embeds.float().cpu())
        masks.append(encoded.video_attention_mask.cpu())
    longest = max(mask.shape[1] for mask in masks)
    return {
        "frames": torch.cat([pad(one, (0, 0, 0, longest - one.shape[1])) for one in frames]),
        "mask": torch.cat([pad(one, (0, longest - one.shape[1])) for one in masks]),
        "starts": torch.tensor([float(window["start"]) for window in windows]),
    }


class EncodingStore(PartStore):
    """
    A `PartStore` of encoded videos, one part a video. A video whose files have changed is encoded anew.

    Example:
        >>> store = EncodingStore("encodings", model_version("hero", model.config))
        >>> encoded = store.get("talk", {"size": 81234}, lambda: encode_video(model, processor, features, "talk.srt"))
    """

    def get(self, name: str, facts: Mapping[str, Any], encode: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """
        Args:
            name: of the video.
            facts: decide whether the video is the same as before, as JSON values.
            encode: called if it is not, or if the part is damaged.
        """
        part, text = hashlib.sha256(name.encode()).hexdigest()[:32], json.dumps(facts, sort_keys=True)
        if self.is_whole(part):
            (row,) = self.read(part).to_pylist()
            if row["facts"] == text:
                return safetensors.torch.load(row["tensors"])
        encoded = encode()
        tensors = safetensors.torch.save({key: value.contiguous() for key, value in encoded.items()})
        self.write(part, {"name": [name], "facts": [text], "tensors": [tensors]})
        return encoded


def search_moments(
    model: Any, processor: Any, videos: Mapping[str, Mapping[str, Tensor]], query: str, top: int = 5
) -> list[FoundMoment]:
    """
    Args:
        model, processor: find moments.
        videos: name → what [`encode_video`] returned.
        query: a sentence.
        top: how many moments to return.

    Example:
        >>> videos = {"talk.mp4": encode_video(model, processor, features, "talk.srt")}
        >>> search_moments(model, processor, videos, "she explains the second slide")[0].start
        61.5
    """
    names = [name for name, video in videos.items() for _ in video["starts"]]
    starts = torch.cat([video["starts"] for video in videos.values()]).tolist()
    longest = max(video["mask"].shape[1] for video in videos.values())

    def joined(key: str) -> Tensor:
        rows = [
            pad(video[key], (0, 0) * (video[key].ndim - 2) + (0, longest - video[key].shape[1]))
            for video in videos.values()
        ]
        return torch.cat(rows).to(model.device)

    with torch.inference_mode():
        text = model.get_text_features(**processor(text=[query]).to(model.device)).text_embeds.float()
    own = torch.zeros(1, dtype=torch.long, device=model.device)
    (found,) = find_moments(
        model, text, joined("frames"), joined("mask"), own, MomentRanking.of(processor, max_predictions=top)
    )
    return [
        FoundMoment(names[window], starts[window] + start, starts[window] + end, score)
        for window, start, end, score in found.moments
    ]


def moments_of_video(
    video: str | Path,
    query: str,
    model: Any,
    processor: Any,
    *,
    subtitles: Any = None,
    features: str | Path | None = None,
    extractors: Mapping[str, str] | None = None,
    top: int = 5,
) -> list[FoundMoment]:
    """
    Find the moments of a video file that a sentence means, as `hf-videolang moments` does.

    Args:
        video, query: the file, and a sentence.
        model, processor: find moments.
        subtitles (*optional*): what the processor takes, such as the path of a subtitle file.
        features (*optional*): an .npy or .npz of the video, or a feature store, which gets what it lacks; by default
            the features that the model names are extracted and not kept.
        extractors (*optional*): name of an extractor → folder of its weights, where they are not those of the preset.
        top (defaults to 5): how many moments to return, the best one first.

    Raises:
        VideoDecodingError: the video does not decode.
        SubtitleError: the subtitles cannot be read.
        ValueError: the model does not name its features, or those given are others.

    Example:
        >>> moments_of_video("talk.mp4", "she explains the second slide", model, processor)[0].start
        61.5
    """
    video, stored = Path(video), None if features is None else Path(features)
    with features_of_files([video], model, processor, stored, extractors) as (read_rows, _):
        encoded = encode_video(model, processor, read_rows(video), subtitles)
    return search_moments(model, processor, {str(video): encoded}, query, top)


def file_facts(paths: Sequence[Path | None]) -> list[list[int] | None]:
    """Size and date of files; `None` where there is none."""
    found = [path.stat() if path is not None and path.exists() else None for path in paths]
    return [None if one is None else [one.st_size, one.st_mtime_ns] for one in found]
