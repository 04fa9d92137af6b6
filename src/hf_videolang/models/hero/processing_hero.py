"""Features of videos, subtitles, segments and texts to the inputs of HERO, and its outputs to seconds."""

import html
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from hf_videolang.metrics.moments import top_moments
from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.video.subtitles import Subtitle, read_subtitles

from .subtitle_matching_hero import cut_frames, group_frames, match_frames, segment_frames, span_frames

logger = logging.get_logger(__name__)

CAPTION_FOLDER = "caption_tokenizer"


class HeroProcessor(PushedCardMixin, RemoteCodeMixin, ProcessorMixin):
    """
    RoBERTa's tokenizer, and the rules by which subtitles belong to frames (hero §7.2, §7.3). A frame is a row of
    features.

    Args:
        tokenizer (`RobertaTokenizer`): the model's. It adds no special tokens of its own.
        seconds_per_feature (`float`, defaults to 1.5): time between two rows of features.
        max_frames (`int`, defaults to 100): the longest video, in rows.
        features (`str`, *optional*): which features the model was trained on, such as `"resnet_slowfast"`.
        context_subtitles (`int`, defaults to 0): how many earlier subtitles stand before each subtitle's text.
        row_start (`str`, defaults to `"sep"`): the token before a subtitle, `"sep"` or `"cls"`.
        frames_per_group (`int`, defaults to 5): a video without subtitles is read in groups of this many rows.
        max_length (`int`, defaults to 60): tokens of a caption, of a query or, with the longest choice, of a question.
            Captions are cut. Training leaves out longer queries and questions; they are not cut.
        min_moment_frames, max_moment_frames (`int`, default to 2, 16): a moment's last row lies at least
            `min_moment_frames` and less than `max_moment_frames` rows behind its first. Defaults are TVR's; How2R has
            3 and 20.
        video_score_scale (`float`, defaults to 20.0): a video weighs the exponential of its score times this when
            moments of several videos are ranked.
        text_encoder (`str`, defaults to `"hero"`): whose format the texts have (hero §11). With `"clip"`, `tokenizer`
            is CLIP's. Every text, with its earlier subtitles or its question, stands between CLIP's start and end
            token, and is cut to the tokenizer's `model_max_length`, 77.
        caption_tokenizer (`RobertaTokenizer`, *optional*): of captions, saved in a folder of this name. By default
            they have the tokenizer of the inputs.

    ```python
    processor = HeroProcessor.from_pretrained("org/hero-tvr")
    inputs = processor(video_features=np.load("talk.npy"), subtitles="talk.srt", text="she explains the second slide")
    moments = processor.post_process_moments(model(**inputs))
    ```
    """

    auto_map = {"AutoProcessor": "processing_hero.HeroProcessor"}

    def __init__(
        self,
        tokenizer=None,
        seconds_per_feature: float = 1.5,
        max_frames: int = 100,
        features: str | None = None,
        context_subtitles: int = 0,
        row_start: Literal["sep", "cls"] = "sep",
        frames_per_group: int = 5,
        max_length: int = 60,
        min_moment_frames: int = 2,
        max_moment_frames: int = 16,
        video_score_scale: float = 20.0,
        text_encoder: Literal["hero", "clip"] = "hero",
        caption_tokenizer=None,
        **kwargs,
    ):
        super().__init__(tokenizer, **kwargs)
        self.seconds_per_feature = seconds_per_feature
        self.max_frames = max_frames
        self.features = features
        self.context_subtitles = context_subtitles
        self.row_start = row_start
        self.frames_per_group = frames_per_group
        self.max_length = max_length
        self.min_moment_frames = min_moment_frames
        self.max_moment_frames = max_moment_frames
        self.video_score_scale = video_score_scale
        self.text_encoder = text_encoder
        self._caption_tokenizer = caption_tokenizer

    @property
    def caption_tokenizer(self) -> Any:
        """Of captions."""
        return self.tokenizer if self._caption_tokenizer is None else self._caption_tokenizer

    @classmethod
    def get_attributes(cls) -> list[str]:
        """What every processor has; not the tokenizer of captions."""
        return ["tokenizer"]

    def to_dict(self) -> dict[str, Any]:
        own = {} if self._caption_tokenizer is None else {"caption_tokenizer": CAPTION_FOLDER}
        return {**super().to_dict(), **own}

    def save_pretrained(self, save_directory, *args, **kwargs):
        if self._caption_tokenizer is not None:
            self._caption_tokenizer.save_pretrained(Path(save_directory) / CAPTION_FOLDER)
        return super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def _get_arguments_from_pretrained(cls, name, processor_dict=None, **kwargs):
        if folder := (processor_dict or {}).get("caption_tokenizer"):
            captions = cls._load_tokenizer_from_pretrained("tokenizer", name, subfolder=folder, **kwargs)
            processor_dict["caption_tokenizer"] = captions
        return super()._get_arguments_from_pretrained(name, processor_dict, **kwargs)

    @classmethod
    def _load_tokenizer_from_pretrained(cls, kind, name, subfolder="", **kwargs):
        """transformers makes a tokenizer without words where only the file of its words is missing."""
        reason = None
        try:
            tokenizer: Any = super()._load_tokenizer_from_pretrained(kind, name, subfolder=subfolder, **kwargs)
            if len(tokenizer) > len(tokenizer.all_special_ids):
                return tokenizer
        except ValueError as error:  # tokenizer_config.json is missing, too
            reason = error
        place = f"{name}/{subfolder}" if subfolder else name
        raise ValueError(
            f"{place} lacks its tokenizer; expected tokenizer.json and tokenizer_config.json. Copy both from the "
            "model that this one was trained from, or convert it again."
        ) from reason

    def __call__(
        self,
        images=None,
        text: str | Sequence[str] | None = None,
        videos=None,
        *,
        video_features: Any = None,
        subtitles: Any = None,
        question: str | Sequence[str] | None = None,
        choices: Sequence[Any] | None = None,
        statement: str | Sequence[str] | None = None,
        segments: Sequence[Any] | None = None,
        captions: Sequence[str] | None = None,
        truncation: bool = False,
        **kwargs,
    ) -> BatchFeature:
        """
        Args:
            text: queries; with `choices`, another name of `question`.
            video_features: rows of features of a video, an array or tensor [rows, width], or a list of them.
            subtitles: of the video: what `read_subtitles` takes, a path or entries in seconds. `None`: it has none.
                With a list of videos, a list of these.
            question, choices: a question and its choices, or a list of both, one a video. Without `question`, a
                choice stands alone.
            statement: a statement, or a list, one a video.
            segments: `(start, end)` in seconds of each part of the video to be captioned. With a list of videos, a
                list of such lists. `None`: whole videos.
            captions: the captions to learn: one for each segment, in their order, or for each video. Each is cut to
                `max_length` tokens.
            truncation: whether to keep the first `max_frames` rows of a longer video, as the original does. By
                default it raises; [`~HeroProcessor.windows`] divides the video.

        Returns:
            `video_features` [videos, rows, width], float32, `video_attention_mask` [videos, rows],
            `subtitle_input_ids` and `subtitle_attention_mask` [videos, subtitles, tokens], `frame_subtitles` [videos,
            rows]; `input_ids` and `attention_mask` [queries, tokens], with choices [videos, choices, tokens];
            `segments` [segments, 2], the first row of each and the one behind its last, and `video_index` [segments];
            `labels` [captions, tokens], -100 at padding.

        Raises:
            SubtitleError: a subtitle file cannot be read.
            ValueError: no input, more than one kind of text, features of another shape or with NaN, a video that is
                too long, or a segment without length or outside its video.
        """
        if choices is not None and question is None:
            text, question = None, text
        texts = {"text": text, "choices": choices, "statement": statement}
        given = [name for name, value in texts.items() if value is not None]
        if images is not None or videos is not None:
            raise ValueError("HERO reads features; pass video_features, which `hf-videolang extract` makes of videos.")
        if len(given) > 1 or (question is not None and choices is None):
            raise ValueError("pass text, question with choices, or statement.")
        if not given and video_features is None:
            raise ValueError("there is no input; pass video_features, text, or both.")
        batch = BatchFeature()
        if video_features is not None:
            batch.update(self._videos(video_features, subtitles, truncation))
            if segments is not None:
                is_batch = isinstance(video_features, (list, tuple))
                batch.update(self._segments(segments if is_batch else [segments], batch["video_attention_mask"]))
        if captions is not None:
            batch.update(self._labels(captions))
        if choices is not None:
            batch.update(self._choices(question, choices))
        elif given:
            one = texts[given[0]]
            start = self.tokenizer.cls_token_id if given == ["text"] else self.tokenizer.sep_token_id
            batch.update(self._pad([self._row([each], start) for each in ([one] if isinstance(one, str) else one)]))
        return batch

    def token_ids(self, text: str) -> list[int]:
        """Without special tokens. A text all in capitals is lower-cased first."""
        return self.tokenizer(text.lower() if text.isupper() else text, add_special_tokens=False)["input_ids"]

    def caption_ids(self, text: str) -> list[int]:
        """As `token_ids`, by the tokenizer of captions."""
        return self.caption_tokenizer(text.lower() if text.isupper() else text, add_special_tokens=False)["input_ids"]

    def batch_decode(self, *args, **kwargs) -> list[str]:
        """Captions of what `generate` wrote, as the tokenizer's method of this name."""
        return self.caption_tokenizer.batch_decode(*args, **kwargs)

    def _row(self, texts: Sequence[str], start: int | None) -> list[int]:
        """Ids of an input: each text behind HERO's `start`, or all of them within CLIP's tokens."""
        if self.text_encoder == "hero":
            return [number for text in texts for number in (start, *self.token_ids(text))]
        return self.tokenizer(" ".join(texts).strip())["input_ids"]

    def windows(
        self, video_features: Any, subtitles: Any = None, window_seconds: float = 60.0, overlap_seconds: float = 0.0
    ) -> list[dict[str, Any]]:
        """
        Divide a long video. A subtitle over a border lies in both windows, clipped.

        Args:
            video_features, subtitles: of one video, as in a call.
            window_seconds: length of a window; the How2 data have 60.
            overlap_seconds: what a window shares with the next one.

        Returns:
            For each window its `video_features` and `subtitles`, in the window's time, and `start`, its first second
            in the video, as [`~HeroProcessor.post_process_moments`] takes it.

        Raises:
            ValueError: a window is longer than `max_frames` rows, or not longer than the overlap.

        ```python
        windows = processor.windows(features, "lesson.srt")
        inputs = processor(
            video_features=[window["video_features"] for window in windows],
            subtitles=[window["subtitles"] for window in windows],
            text="crack the eggs",
        )
        processor.post_process_moments(model(**inputs), starts=[window["start"] for window in windows])
        ```
        """
        seconds, entries = self.seconds_per_feature, read_subtitles(subtitles)
        rows, step = round(window_seconds / seconds), round((window_seconds - overlap_seconds) / seconds)
        if not 0 < step <= rows <= self.max_frames:
            raise ValueError(
                f"windows of {window_seconds:g} s with {overlap_seconds:g} s overlap are {rows} rows, one every "
                f"{step}; expected at most {self.max_frames} rows and less overlap than a window."
            )
        features, result = torch.as_tensor(video_features), []
        for first in range(0, max(len(features) - (rows - step), 1), step):
            start, end = first * seconds, (first + rows) * seconds
            inside = [
                Subtitle(start=max(one["start"], start) - start, end=min(one["end"], end) - start, text=one["text"])
                for one in entries
                if one["start"] < end and one["end"] > start
            ]
            result.append({"video_features": features[first : first + rows], "subtitles": inside, "start": start})
        return result

    def span_frames(self, start: float, end: float, num_frames: int) -> tuple[int, int]:
        """First and last row of a moment in seconds, for training; -1, -1 for NaN."""
        return span_frames(start, end, num_frames, self.seconds_per_feature)

    def span_seconds(self, first: int, last: int) -> tuple[float, float]:
        """Start and end of a moment by its first and last row."""
        return first * self.seconds_per_feature, (last + 1) * self.seconds_per_feature

    def post_process_moments(
        self, outputs: Any, top: int = 5, starts: Sequence[float] | None = None
    ) -> list[list[dict[str, Any]]]:
        """
        The best moments of each query, in seconds.

        Args:
            outputs (`HeroRetrievalOutput` or `HeroAnswerOutput`): of the model.
            top: how many moments to return; fewer if there are fewer candidates.
            starts: second at which each video starts, if it is a window.

        Returns:
            For each query, `{"video", "start", "end", "score"}`, best first. `video` is the number of the video in
            the batch, and `None` where the logits are of the query's own video.
        """
        first, last = outputs.start_logits.float().softmax(-1), outputs.end_logits.float().softmax(-1)
        is_own = first.ndim == 2
        weights = None
        if is_own:
            first, last = first[:, None], last[:, None]
        else:
            weights = (self.video_score_scale * outputs.logits_per_text.float()).exp()
        bounds = self.min_moment_frames, self.max_moment_frames
        found = [value.tolist() for value in top_moments(first, last, weights, *bounds, top)]
        result = []
        for number, query in enumerate(zip(*found)):
            moments = []
            for video, start, end, score in zip(*query):
                begin = starts[number if is_own else video] if starts is not None else 0.0
                start, end = self.span_seconds(start, end)
                if score > 0:
                    name = None if is_own else video
                    moments.append({"video": name, "start": begin + start, "end": begin + end, "score": score})
            result.append(moments)
        return result

    def input_protocol(self, features: str | None = None) -> dict[str, str | int]:
        """
        What the model sees, part of every printed result.

        Args:
            features (*optional*): how the stored features were made.
        """
        longest = self.max_frames * self.seconds_per_feature
        return {
            "features": features or f"{self.features or 'unknown'}, one every {self.seconds_per_feature:g} s",
            "frames": f"at most {self.max_frames} ({longest:g} s)",
            "subtitles": f"with {self.context_subtitles} before each" if self.context_subtitles else "one a row",
            "text": f"{self.max_length} tokens in training",
        }

    def _videos(self, video_features: Any, subtitles: Any, truncation: bool) -> dict[str, torch.Tensor]:
        is_batch = isinstance(video_features, (list, tuple))
        videos = [torch.as_tensor(one).float() for one in (video_features if is_batch else [video_features])]
        entries = list(subtitles) if is_batch and subtitles is not None else [subtitles] * len(videos)
        if len(entries) != len(videos):
            raise ValueError(f"{len(entries)} entries of subtitles for {len(videos)} videos; pass one a video.")
        features, frame_subtitles, rows = [], [], []
        for number, (video, one) in enumerate(zip(videos, entries)):
            is_finite = video.sum().isfinite()  # ten times faster than to look at each number
            if video.ndim != 2 or not len(video) or not is_finite:
                raise ValueError(
                    f"features of video {number} have shape {tuple(video.shape)}"
                    f"{'' if is_finite else ' and hold NaN or infinity'}; expected finite [rows, width]."
                )
            if len(video) > self.max_frames and not truncation:
                raise ValueError(
                    f"video {number} has {len(video)} rows of features, the model reads {self.max_frames} "
                    f"({self.max_frames * self.seconds_per_feature:g} s). Divide it with processor.windows(…), or "
                    "pass truncation=True to keep its start."
                )
            texts, matched = self._match(read_subtitles(one), len(video))
            features.append(video[: self.max_frames])
            frame_subtitles.append(torch.tensor(matched))
            rows.append(texts)
        padded = self._pad([text for texts in rows for text in texts])
        ids, mask = (
            pad_sequence(padded[name].split([len(texts) for texts in rows]), batch_first=True, padding_value=value)
            for name, value in (("input_ids", self._padding), ("attention_mask", 0))
        )
        ones = [torch.ones(len(video), dtype=torch.long) for video in features]
        return {
            "video_features": pad_sequence(features, batch_first=True),
            "video_attention_mask": pad_sequence(ones, batch_first=True),
            "subtitle_input_ids": ids,
            "subtitle_attention_mask": mask,
            "frame_subtitles": pad_sequence(frame_subtitles, batch_first=True, padding_value=-1),
        }

    def _match(self, entries: list[Subtitle], num_frames: int) -> tuple[Sequence[list[int]], list[int]]:
        """Token ids of each row, and the row of each frame."""
        if entries:
            matched = match_frames(entries, num_frames, self.seconds_per_feature)
            texts = [html.unescape(one["text"]) for one in entries]
        else:
            matched = group_frames(num_frames, self.frames_per_group)
            texts = [""] * (matched[-1] + 1)
        kept, matched = cut_frames(matched, len(texts), self.max_frames)
        start = self.tokenizer.sep_token_id if self.row_start == "sep" else self.tokenizer.cls_token_id
        with_context = [slice(max(number - self.context_subtitles, 0), number + 1) for number in kept]
        if self.text_encoder == "clip":
            return [self._row(texts[part], None) for part in with_context], matched
        ids = [self.token_ids(text) for text in texts]
        return [[start, *chain.from_iterable(ids[part])] for part in with_context], matched

    def _segments(self, segments: Sequence[Any], mask: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(segments) != len(mask):
            raise ValueError(f"segments of {len(segments)} videos for {len(mask)}; pass a list of them for each.")
        lengths = mask.sum(dim=1).tolist()
        spans = [
            segment_frames(*span, length, self.seconds_per_feature)
            for length, spans in zip(lengths, segments)
            for span in spans
        ]
        index = [video for video, spans in enumerate(segments) for _ in spans]
        return {
            "segments": torch.tensor(spans, dtype=torch.long).reshape(len(spans), 2),
            "video_index": torch.tensor(index, dtype=torch.long),
        }

    def _labels(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        written = self.caption_tokenizer
        end = written.eos_token_id if written.sep_token_id is None else written.sep_token_id  # CLIP's, or RoBERTa's
        rows = [torch.tensor([*self.caption_ids(text), end][: self.max_length]) for text in captions]
        return {"labels": pad_sequence(rows, batch_first=True, padding_value=-100)}

    def _choices(self, question: str | Sequence[str] | None, choices: Sequence[Any]) -> dict[str, torch.Tensor]:
        rows: list[Sequence[str]] = [choices] if choices and isinstance(choices[0], str) else list(choices)
        questions = [question] * len(rows) if question is None or isinstance(question, str) else list(question)
        if len(questions) != len(rows) or not all(rows):
            raise ValueError(
                f"{len(questions)} questions and choices for {len(rows)}; pass a list of choices for each."
            )
        most, texts = max(map(len, rows)), []
        for asked, options in zip(questions, rows):
            pairs = [[asked, option] if asked else [option] for option in options]
            texts += [self._row(pair, self.tokenizer.sep_token_id) for pair in pairs]
            texts += [[]] * (most - len(options))
        padded = self._pad(texts)
        return {name: value.unflatten(0, (len(rows), most)) for name, value in padded.items()}

    @property
    def _padding(self) -> int:
        """CLIP reads nothing behind the end, so what stands there is free; OpenAI's texts have 0."""
        return self.tokenizer.pad_token_id if self.text_encoder == "hero" else 0

    def _cut(self, rows: Sequence[list[int]]) -> Sequence[list[int]]:
        """CLIP's texts at their limit, the end token last. HERO's are not cut."""
        limit = self.tokenizer.model_max_length
        if self.text_encoder == "hero" or not (long := sum(len(row) > limit for row in rows)):
            return rows
        logger.warning(f"{long} of {len(rows)} texts have more than {limit} tokens, which CLIP reads, and are cut.")
        return [[*row[: limit - 1], row[-1]] if len(row) > limit else row for row in rows]

    def _pad(self, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row, dtype=torch.long) for row in self._cut(rows)]
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        padded = pad_sequence(ids, batch_first=True, padding_value=self._padding)
        return {"input_ids": padded, "attention_mask": mask}


__all__ = ["HeroProcessor"]
