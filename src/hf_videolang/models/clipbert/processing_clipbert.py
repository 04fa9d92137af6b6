"""Videos, pictures, questions and their options to the inputs of ClipBERT."""

from collections.abc import Sequence

from PIL import Image, ImageOps
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs

from hf_videolang.models.shared.any_text import AnyTextProcessor

from .video_processing_clipbert import ClipBertVideoProcessorKwargs


class ClipBertProcessorKwargs(ProcessingKwargs, total=False):
    videos_kwargs: ClipBertVideoProcessorKwargs
    _defaults = {
        "text_kwargs": {"truncation": True, "return_token_type_ids": False},
        "common_kwargs": {"return_tensors": "pt"},
    }


class ClipBertProcessor(AnyTextProcessor):
    """
    A `ClipBertVideoProcessor` and a BERT tokenizer in one.

    Args:
        video_processor (`ClipBertVideoProcessor`): clips, resize and normalisation of videos.
        tokenizer (`BertTokenizer`): uncased in every published checkpoint.
        max_length (`int`, defaults to 100): tokens of a text, [CLS] and [SEP] included. Longer texts are cut.
            Published models use 20 to 100 (clipbert §9).
        padding (`str` or `bool`, defaults to `"max_length"`): `"max_length"` pads shorter texts to `max_length`, as
            the original does. `"longest"` pads to the longest text of the batch, which is faster and gives the same
            logits.

    Raises:
        ValueError: `max_length` is below 2 or above the tokenizer's `model_max_length`.

    ```python
    processor = ClipBertProcessor.from_pretrained("org/clipbert-msrvtt-qa")
    inputs = processor(videos="kitchen.mp4", text="what is the man doing?")
    ```
    """

    auto_map = {
        "AutoProcessor": "processing_clipbert.ClipBertProcessor",
        "AutoVideoProcessor": "video_processing_clipbert.ClipBertVideoProcessor",
    }
    valid_processor_kwargs = ClipBertProcessorKwargs  # type: ignore[assignment]
    own_text_options = ("max_length", "padding")

    def __init__(
        self, video_processor=None, tokenizer=None, max_length: int = 100, padding: str | bool = "max_length", **kwargs
    ):
        super().__init__(video_processor, tokenizer, **kwargs)
        self.check_length(max_length, self.tokenizer.model_max_length)
        self.max_length = max_length
        self.padding = padding

    def __call__(self, images=None, text=None, videos=None, choices=None, **kwargs) -> BatchFeature:
        """
        Args:
            images: PIL images, arrays, paths or URLs, turned upright by EXIF. Each becomes a video of one clip of one
                frame. Pass either `images` or `videos`.
            text (`str` or `list[str]`): questions or sentences.
            videos: videos of every kind that `ClipBertVideoProcessor` takes.
            choices (`list[str]` or `list[list[str]]`): options of the one question, or of each. An option's text is
                the question, a space and the option; without `text`, the option alone.
            kwargs: options of the tokenizer and the video processor for this call, flat (`max_length=25`,
                `num_clips=16`) or nested (`text_kwargs={...}`, `videos_kwargs={...}`).

        Returns:
            `input_ids` and `attention_mask` `[texts, max_length]`, with `choices` `[questions, options, max_length]`,
            where a question with fewer options is filled up by options of mask 0; `pixel_values_videos`
            `[videos, clips, frames, 3, size, size]`.

        Raises:
            VideoDecodingError: a video cannot be read.
            TypeError, ValueError: no input, an input of the wrong kind, or a `max_length` above the limit.
        """
        if images is not None:
            pictures = self.pictures_as_videos(images, videos, kwargs, num_clips=1)
            videos = [[_upright(image) for image in video] for video in pictures]
        if text is not None or choices is not None:
            given = self._merge_kwargs(**kwargs)["text_kwargs"]["max_length"]
            self.check_length(given, self.tokenizer.model_max_length)
        if choices is None:
            return super().__call__(text=text, videos=videos, **kwargs)
        questions = _questions(text, choices)
        options = max(map(len, questions))
        filled = [row + [""] * (options - len(row)) for row in questions]
        inputs = super().__call__(text=[one for row in filled for one in row], videos=videos, **kwargs)
        for name in ("input_ids", "attention_mask"):
            inputs[name] = inputs[name].reshape(len(questions), options, -1)
        for number, row in enumerate(questions):
            inputs["attention_mask"][number, len(row) :] = 0
        return inputs


def _questions(text: str | Sequence[str] | None, choices: Sequence) -> list[list[str]]:
    """The texts of each question's options."""
    rows = [choices] if choices and isinstance(choices[0], str) else list(choices)
    texts = [""] * len(rows) if text is None else [text] if isinstance(text, str) else list(text)
    if len(texts) != len(rows) or not all(rows):
        raise ValueError(
            f"{len(texts)} questions and choices for {len(rows)} of them; pass a list of options for each."
        )
    return [[f"{question} {option}" if question else option for option in row] for question, row in zip(texts, rows)]


def _upright(image):
    return ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else image


__all__ = ["ClipBertProcessor"]
