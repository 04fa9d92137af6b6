"""Videos, pictures and texts to the inputs of CLIP-ViP."""

from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs

from hf_videolang.models.shared.any_text import AnyTextProcessor

from .video_processing_clip_vip import CLIPViPVideoProcessorKwargs


class CLIPViPProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: CLIPViPVideoProcessorKwargs
    _defaults = {"text_kwargs": {"truncation": True}, "common_kwargs": {"return_tensors": "pt"}}


class CLIPViPProcessor(AnyTextProcessor):
    """
    A `CLIPViPVideoProcessor` and a CLIP tokenizer in one.

    Args:
        video_processor (`CLIPViPVideoProcessor`): sampling, resize and normalisation of videos.
        tokenizer (`CLIPTokenizer`): its padding token becomes its end token, as in CLIP-ViP.
        max_length (`int`, defaults to 77): tokens of a text, begin and end included. Longer texts are cut and keep
            their end token. Published checkpoints use 70 (pre-training,
            ActivityNet) or 50 (clip_vip §4). The limit is 77, the positions of the released text towers, or the
            tokenizer's `model_max_length` if that is larger.
        padding (`str` or `bool`, defaults to `"max_length"`): `"max_length"` pads shorter texts to `max_length`.
            `"longest"` pads to the longest text of the batch, which is faster and gives the same embeddings.

    Raises:
        ValueError: `max_length` is below 2 or above the limit.

    ```python
    processor = CLIPViPProcessor.from_pretrained("org/clip-vip-b16")
    inputs = processor(videos=["kitchen.mp4"], text=["a chef slices onions", "a dog on a beach"])
    ```
    """

    auto_map = {
        "AutoProcessor": "processing_clip_vip.CLIPViPProcessor",
        "AutoVideoProcessor": "video_processing_clip_vip.CLIPViPVideoProcessor",
    }
    valid_processor_kwargs = CLIPViPProcessorKwargs  # type: ignore[assignment]
    own_text_options = ("max_length", "padding")

    def __init__(
        self, video_processor=None, tokenizer=None, max_length: int = 77, padding: str | bool = "max_length", **kwargs
    ):
        super().__init__(video_processor, tokenizer, **kwargs)
        self._check_length(max_length)
        self.max_length = max_length
        self.padding = padding
        self.tokenizer.pad_token = self.tokenizer.eos_token

    def __call__(self, images=None, text=None, videos=None, **kwargs) -> BatchFeature:
        """
        Args:
            images: PIL images, arrays, paths or URLs. Each becomes a video of one frame. Pass either `images` or
                `videos`.
            text (`str` or `list[str]`): texts.
            videos: videos of every kind that `CLIPViPVideoProcessor` takes.
            kwargs: options of the tokenizer and the video processor for this call, flat (`max_length=50`,
                `num_frames=32`) or nested (`text_kwargs={...}`, `videos_kwargs={...}`).

        Returns:
            `input_ids` and `attention_mask` `[texts, max_length]`; `pixel_values_videos`
            `[videos, frames, 3, height, width]` and, if the videos differ in length, `video_attention_mask`.

        Raises:
            VideoDecodingError: a video cannot be read.
            TypeError, ValueError: no input, an input of the wrong kind, or a `max_length` above the limit.
        """
        if images is not None:
            videos = self.pictures_as_videos(images, videos, kwargs)
        if text is not None:
            self._check_length(self._merge_kwargs(**kwargs)["text_kwargs"]["max_length"])
        return super().__call__(text=text, videos=videos, **kwargs)

    def _check_length(self, max_length: int) -> None:
        self.check_length(max_length, max(77, self.tokenizer.model_max_length))


__all__ = ["CLIPViPProcessor"]
