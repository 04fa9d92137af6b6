"""Videos and texts to the inputs of S3D."""

from transformers.processing_utils import ProcessingKwargs

from hf_videolang.models.shared.any_text import AnyTextProcessor

from .video_processing_s3d import S3DVideoProcessorKwargs


class S3DProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: S3DVideoProcessorKwargs
    _defaults = {
        "text_kwargs": {"padding": "max_length", "truncation": True},
        "common_kwargs": {"return_tensors": "pt"},
    }


class S3DProcessor(AnyTextProcessor):
    """
    An `S3DVideoProcessor` and the word tokenizer of S3D's text module in one.

    Args:
        video_processor (`S3DVideoProcessor`): frames and pixels of videos.
        tokenizer (`PreTrainedTokenizerFast`): made by `s3d_tokenizer`.
        max_length (`int`, defaults to 16): words of a text. Of those that the dictionary has, the first are kept.

    ```python
    processor = S3DProcessor.from_pretrained("org/s3d-howto100m")
    inputs = processor(videos=["kitchen.mp4"], text=["cut tomato", "open door"])
    ```
    """

    auto_map = {
        "AutoProcessor": "processing_s3d.S3DProcessor",
        "AutoVideoProcessor": "video_processing_s3d.S3DVideoProcessor",
    }
    valid_processor_kwargs = S3DProcessorKwargs  # type: ignore[assignment]
    similarity = "dot"  # of videos and texts

    def __init__(self, video_processor=None, tokenizer=None, max_length: int = 16, **kwargs):
        super().__init__(video_processor, tokenizer, **kwargs)
        self.max_length = max_length

    def input_protocol(self) -> dict[str, str | int]:
        """What the model sees, part of every printed result."""
        return {**self.video_processor.input_protocol(), "text": f"at most {self.max_length} words"}


__all__ = ["S3DProcessor"]
