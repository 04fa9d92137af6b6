"""What the processors of all families share: the texts that a user may pass."""

import logging
import os
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers.processing_utils import ProcessorMixin

from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.video.sources import VIDEO_EXTENSIONS
from hf_videolang.video.video_inputs import images_as_videos

logger = logging.getLogger(__name__)
_WARNED: list[str] = []


class AnyTextProcessor(PushedCardMixin, RemoteCodeMixin, ProcessorMixin):
    """
    Takes a text, a list of texts, or a column of `datasets` (`dataset["caption"]`).

    Warns once if a text is the name of a video. sentence-transformers passes such a name as text if it finds no file
    of that name or does not know the ending.

    Attributes:
        own_text_options: attributes that the tokenizer gets. Those saved with the tokenizer must not override them.
    """

    own_text_options: ClassVar[tuple[str, ...]] = ("max_length",)
    max_length: int

    def prepare_inputs_layout(self, images: Any = None, text: Any = None, videos: Any = None, audio=None, **kwargs):
        if isinstance(text, Sequence) and not isinstance(text, str):
            text = list(text)
        if text is not None and not _WARNED:
            _WARNED.extend(filter(_names_a_video, text if isinstance(text, list) else [text]))
            if _WARNED:
                logger.warning(
                    "%r is encoded as a sentence, not as a video. Pass a video as videos=[path], or to "
                    'sentence-transformers as {"video": path}, and check that the file exists.',
                    _WARNED[0],
                )
        return super().prepare_inputs_layout(images=images, text=text, videos=videos, audio=audio, **kwargs)

    def pictures_as_videos(self, images: Any, videos: Any, kwargs: dict[str, Any], **fixed: Any) -> list[list]:
        """`images` as videos of one frame. Their options in `kwargs` become those of the video processor."""
        if videos is not None:
            raise ValueError("images and videos both become pixel_values_videos; pass them in two calls.")
        fixed["do_sample_frames"] = False
        for name in fixed:
            kwargs.pop(name, None)
        kwargs["videos_kwargs"] = {**kwargs.pop("images_kwargs", {}), **kwargs.pop("videos_kwargs", {}), **fixed}
        return images_as_videos(images)

    def check_length(self, max_length: int, limit: int) -> None:
        """Raises `ValueError` if texts of `max_length` tokens, begin and end included, do not fit the model."""
        if not 2 <= max_length <= limit:
            raise ValueError(f"max_length is {max_length}; expected 2 to {limit}, the positions of the model.")

    def input_protocol(self) -> dict[str, str | int]:
        """What the model sees, part of every printed result: `{"frames": 12, "sampling": "uniform", …}`."""
        return {**self.video_processor.input_protocol(), "text": f"at most {self.max_length} tokens"}

    def _merge_kwargs(self, model_kwargs=None, tokenizer_init_kwargs=None, **kwargs):
        merged = super()._merge_kwargs(model_kwargs or self.valid_processor_kwargs, None, **kwargs)
        own = {name: getattr(self, name) for name in self.own_text_options}
        merged["text_kwargs"] = {**own, **merged["text_kwargs"]}
        return merged


def _names_a_video(text: Any) -> bool:
    return isinstance(text, str) and (text.lower().endswith(VIDEO_EXTENSIONS) or os.path.isfile(text))
