"""A model that turns a video into features: a row for each second or so, or one vector."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import normalize

from hf_videolang.data.stores.feature_store import are_unit_rows
from hf_videolang.hub.model_version import model_version

Inputs = dict[str, torch.Tensor]


class ChunkReader:
    """
    Decodes a video chunk by chunk, so that memory does not grow with its length. Runs in decoding processes.

    Args:
        video_processor: of the model.
        makes_rows: whether the model makes a row of each clip of a file; otherwise it embeds the video as one clip.
        batch_size: clips of a chunk.

    Attributes:
        note: what the user should know about the features of the video that was read last; `None` if there is nothing.
    """

    note: str | None = None

    def __init__(self, video_processor: Any, makes_rows: bool, batch_size: int):
        self.video_processor, self.makes_rows, self.batch_size = video_processor, makes_rows, batch_size

    def __call__(self, video: dict[str, Any]) -> Iterator[tuple[int, Inputs]]:
        """
        Args:
            video: `{"path", "bytes", "start", "end"}`.

        Yields:
            The position of the first row, and the model's inputs. Position 0 may come again: then all rows follow once
            more.

        Raises:
            VideoDecodingError: the video does not decode, perhaps only after some chunks.
        """
        if self.makes_rows:
            for first, pixels in self.video_processor.read_clips(video, self.batch_size):
                yield first, {"pixel_values_videos": pixels[None]}
        else:
            yield 0, dict(self.video_processor(videos=[video], return_tensors="pt"))


class FeatureExtractor:
    """
    A two-tower model, or one whose `config.frames_per_clip` frames become a row of features, on a device.

    Args:
        model, video_processor: see `load_model` and `load_video_processor`.
        device, dtype (default to the CPU and float32): where and in which precision the model runs.
        normalize (defaults to `True`): make each row a unit vector, as models that read rows are mostly trained. The
            vector of a clip stays as the model compares it.
        batch_size (defaults to 8): rows that are encoded at once.

    Attributes:
        makes_rows: whether a video gives rows, or one vector.
        reader: makes the inputs of `__call__`; a [`ChunkReader`].
        facts: what decides the features, see [`FeatureStore`].

    Raises:
        ValueError: the model cannot encode a video alone.

    Example:
        >>> extractor = FeatureExtractor(load_model("org/s3d-howto100m"), load_video_processor("org/s3d-howto100m"))
        >>> rows = torch.cat([extractor(inputs) for _, inputs in extractor.reader({"path": "kitchen.mp4"})])
    """

    def __init__(
        self,
        model: Any,
        video_processor: Any,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        normalize: bool = True,
        batch_size: int = 8,
    ):
        if not hasattr(model, "get_video_features"):
            raise ValueError(
                f"{type(model).__name__} embeds no video alone; expected a two-tower model, or one whose features "
                "other models read."
            )
        frames_per_row = getattr(model.config, "frames_per_clip", None)
        self.makes_rows = frames_per_row is not None
        self.model, self.device, self.dtype = model.to(device, dtype), device, dtype
        self.normalize = normalize and self.makes_rows
        self.reader = ChunkReader(video_processor, self.makes_rows, batch_size)
        black = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)  # shows the width, and that processor and model fit
        probe = self(dict(video_processor(videos=[black], return_tensors="pt")))
        self.facts: dict[str, Any] = {
            **model_version(model.name_or_path, model.config),
            "rows_per_second": video_processor.fps / frames_per_row if frames_per_row else None,
            "width": probe.shape[1],
            "normalized": self.normalize or are_unit_rows(probe),
            "dtype": str(dtype).removeprefix("torch."),
            **video_processor.input_protocol(),
        }

    @torch.inference_mode()
    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """The features of a chunk: float32 `[rows, width]` on the CPU."""
        moved = {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }
        rows = self.encode(moved).float()
        return (normalize(rows, dim=-1) if self.normalize else rows).cpu()

    def encode(self, inputs: Inputs) -> torch.Tensor:
        """What the model makes of inputs on its device: `[rows, width]`."""
        if not self.makes_rows:
            return self.model(**inputs).video_embeds
        return self.model.get_video_features(**inputs).last_hidden_state[0]
