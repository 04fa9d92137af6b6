"""Videos, features of videos and texts to the inputs of VideoCLIP."""

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs

from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessorKwargs
from hf_videolang.models.shared.any_text import AnyTextProcessor

# What sentence-transformers needs in the folder: without these files it takes the similarity for a cosine.
SENTENCE_TRANSFORMERS: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            kind: {"method": f"get_{kind}_features", "method_output_name": "pooler_output"}
            for kind in ("text", "video")
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "dot"},
}


class VideoCLIPProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: S3DVideoProcessorKwargs
    _defaults = {
        "text_kwargs": {"padding": True, "truncation": True, "return_token_type_ids": False},
        "common_kwargs": {"return_tensors": "pt"},
    }


class VideoCLIPProcessor(AnyTextProcessor):
    """
    A `VideoCLIPVideoProcessor` and a BERT tokenizer in one. It also takes features in place of videos.

    Args:
        video_processor (`VideoCLIPVideoProcessor`): frames and pixels of videos, for a model with S3D inside. Its
            `max_clips` is also the most rows of features.
        tokenizer (`BertTokenizer`): the model's.
        max_length (`int`, defaults to 63): tokens of a text, `[CLS]` and `[SEP]` included. Longer texts are cut. The
            original has 61 words and a further `[SEP]`, which belongs to the video (videoclip §2.1).
        unit_features (`bool`, defaults to `True`): whether the model reads unit rows, as the released ones do.
            Features that are something else then raise.

    ```python
    processor = VideoCLIPProcessor.from_pretrained("org/videoclip")
    inputs = processor(videos="lesson.mp4", text=["crack eggs", "slice onions"])
    inputs = processor(video_features=np.load("lesson.npy"), text=["crack eggs", "slice onions"])
    ```
    """

    auto_map = {
        "AutoProcessor": "processing_videoclip.VideoCLIPProcessor",
        "AutoVideoProcessor": "video_processing_videoclip.VideoCLIPVideoProcessor",
    }
    valid_processor_kwargs = VideoCLIPProcessorKwargs  # type: ignore[assignment]
    similarity = "dot"  # of videos and texts

    def __init__(
        self, video_processor=None, tokenizer=None, max_length: int = 63, unit_features: bool = True, **kwargs
    ):
        super().__init__(video_processor, tokenizer, **kwargs)
        self.max_length = max_length
        self.unit_features = unit_features

    def __call__(self, images=None, text=None, videos=None, video_features: Any = None, **kwargs) -> BatchFeature:
        """
        Args:
            text (`str` or `list[str]`): texts.
            videos: videos of every kind that `VideoCLIPVideoProcessor` takes; the first 32 seconds are read.
            video_features: features in place of videos: an array or tensor `[seconds, width]`, or a list of them. The
                first 32 rows are kept.
            kwargs: options of the tokenizer and the video processor for this call, flat (`max_length=32`) or nested
                (`text_kwargs={...}`, `videos_kwargs={...}`).

        Returns:
            `input_ids` and `attention_mask` `[texts, tokens]`; `pixel_values_videos` `[videos, seconds * 30, 3, 224,
            224]` or `video_features` `[videos, seconds, width]`, float32, and `video_attention_mask`
            `[videos, seconds]`.

        Raises:
            VideoDecodingError: a video cannot be read.
            TypeError, ValueError: no input, an input of the wrong kind, or features that are not unit rows.
        """
        if video_features is None:
            return super().__call__(images=images, text=text, videos=videos, **kwargs)
        if videos is not None:
            raise ValueError("videos and video_features both describe the videos; pass one of them.")
        batch = BatchFeature() if text is None else super().__call__(text=text, **kwargs)
        batch.update(self._batch_features(video_features))
        return batch

    def _batch_features(self, video_features: Any) -> dict[str, torch.Tensor]:
        videos = video_features if isinstance(video_features, (list, tuple)) else [video_features]
        videos = [torch.as_tensor(video).float() for video in videos]
        for video in videos:
            if video.ndim != 2 or not len(video):
                raise ValueError(f"features of a video have shape {tuple(video.shape)}; expected [seconds, width].")
            norms = video.norm(dim=1)
            if self.unit_features and not ((norms - 1).abs() <= 0.01).all():  # NaN, too
                raise ValueError(
                    f"rows of features have norms from {norms.min():.3g} to {norms.max():.3g}; this model was "
                    "trained on rows of norm 1. Divide each row by its norm. If the model reads raw rows, load the "
                    "processor with unit_features=False."
                )
        rows = [video[: self.video_processor.max_clips] for video in videos]
        mask = pad_sequence([torch.ones(len(video), dtype=torch.long) for video in rows], batch_first=True)
        return {"video_features": pad_sequence(rows, batch_first=True), "video_attention_mask": mask}

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers; also tells sentence-transformers that the similarity is a dot product."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in SENTENCE_TRANSFORMERS.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return super().save_pretrained(save_directory, *args, **kwargs)

    def input_protocol(self, features: str | None = None) -> dict[str, str | int]:
        """
        What the model sees, part of every printed result.

        Args:
            features (*optional*): how stored features, read in place of the videos, were made.
        """
        text = {"text": f"at most {self.max_length} tokens"}
        if features is not None:
            return {"features": f"{features}, the first {self.video_processor.max_clips} rows", **text}
        return {**self.video_processor.input_protocol(), **text}


__all__ = ["VideoCLIPProcessor"]
