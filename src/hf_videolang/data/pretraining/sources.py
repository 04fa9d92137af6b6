"""Where pre-training clips come from: shards of videos with subtitles, and captions of their middle frames."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any
from zlib import crc32

from hf_videolang.data.records import clip_of, name_some
from hf_videolang.data.shards.open_shards import count_clips, find_shards
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.video_files import video_size
from hf_videolang.video import VideoDecodingError


class PretrainingSource:
    """
    One collection of clips for pre-training.

    Args:
        name: of the source, for messages.
        data: a folder of `.tar` or `.parquet` files, a glob, one such file, a folder of videos or a Hub dataset (see
            `find_shards`). Clips are read in random order, so pack a large collection as tar shards: they give access
            to one clip, while a Parquet file reads a whole row group for each.
        captions (*optional*): a caption store of the same shards, from `hf-videolang data caption-frames`. Without
            it, captions come from the records.
        ratio (defaults to 1): how often a batch comes from this source, relative to the others.
        split (defaults to `"train"`): of a Hub dataset or a folder.
        subtitle_column (defaults to `"subtitle"`), caption_column (defaults to `"caption"`): fields of the records
            with the words spoken in the clip, and with a sentence about its middle frame. A field holds a text, or a
            list of sentences, which are joined by spaces.

    Raises:
        FileNotFoundError: there are no shards or no caption store.
        ValueError: the caption store was made from other shards.
    """

    def __init__(
        self,
        name: str,
        data: str,
        captions: str | None = None,
        ratio: int = 1,
        split: str = "train",
        subtitle_column: str = "subtitle",
        caption_column: str = "caption",
    ):
        self.name = name
        self.ratio = ratio
        self.shards = find_shards(data, split)
        self.lengths = count_clips(self.shards)
        self.store = None if captions is None else CaptionStore(captions)
        self.num_captioned = sum(self.store.has_shard(shard.name) for shard in self.shards) if self.store else 0
        if self.store is not None and not self.num_captioned:
            raise ValueError(
                f"{captions} has no captions of {name_some([shard.name for shard in self.shards])}: it was made from "
                f"other shards than the source {name}, or is still empty."
            )
        self.subtitle_column = subtitle_column
        self.caption_column = caption_column

    def __str__(self) -> str:
        shards = f"{len(self.shards)} shards"
        if self.store is not None and self.num_captioned < len(self.shards):
            shards += f", {self.num_captioned} of them captioned"
        return f"{self.name}: {sum(self.lengths)} clips in {shards}, ratio {self.ratio}"

    def clip(self, shard: int, row: int) -> dict[str, Any]:
        """
        One clip, undecoded.

        Returns:
            `video` (`path` or `bytes`, perhaps `start` and `end`), `video_id`, `shard` (its name), `subtitle` and
            `caption` (`""` if there is none).

        Raises:
            ValueError: the caption store was made from other shards.
            VideoDecodingError: the record cannot be read, has no video, or a column has a wrong kind of value.
        """
        record = self.shards[shard][row]
        name, video_id = self.shards[shard].name, record["video_id"]
        caption = record.get(self.caption_column) if self.store is None else self._stored(name, row, record)
        return {
            "video": clip_of(record, f"{video_id} in {name}"),
            "video_id": video_id,
            "shard": name,
            "subtitle": self._text(record.get(self.subtitle_column), f"{video_id} in {name}", self.subtitle_column),
            "caption": self._text(caption, f"{video_id} in {name}", self.caption_column),
        }

    def check_columns(self, needed: Collection[str]) -> None:
        """
        Check before training starts that the first records have what is needed: "subtitle", "caption" or both.

        Raises:
            ValueError: the first 100 records all lack a needed column, or the caption store describes another video
                than the first record.
        """
        shard = next(shard for shard in self.shards if len(shard))
        if self.store is not None:
            self._stored(shard.name, 0, shard[0])
        columns = {"subtitle": self.subtitle_column}
        if self.store is None:
            columns["caption"] = self.caption_column
        columns = {name: column for name, column in columns.items() if name in needed}
        known: dict[str, Any] = {}
        for row in range(min(len(shard), 100)):  # in a tar, a clip without a text has no such field
            with suppress(VideoDecodingError):
                known |= shard[row]
            if known.keys() >= set(columns.values()):
                break
        for name, column in columns.items():
            if column not in known:
                store = ", or set captions to a caption store" if name == "caption" else ""
                raise ValueError(
                    f"The records of the source {self.name} have no {column!r} but {', '.join(known)}. Set "
                    f"{name}_column to the right column{store}."
                )

    def fingerprint(self) -> dict[str, int]:
        """What the order of the clips depends on, for the checkpoint."""
        listed = "".join(f"{shard.name} {clips}\n" for shard, clips in zip(self.shards, self.lengths))
        return {"ratio": self.ratio, "clips": sum(self.lengths), "shards_crc32": crc32(listed.encode())}

    def _stored(self, shard_name: str, row: int, record: Mapping[str, Any]) -> str | None:
        assert self.store is not None
        return self.store.caption(shard_name, row, record["video_id"], video_size(record["video"]))

    def _text(self, value: Any, name: str, column: str) -> str:
        if isinstance(value, list) and all(isinstance(sentence, str) for sentence in value):
            value = " ".join(value)
        if not isinstance(value, str | None):
            reason = f"its {column} is {str(value)[:80]}; the source {self.name} needs a column of texts"
            raise VideoDecodingError(name, reason)
        return (value or "").strip()


def open_sources(settings: str | Mapping[str, Any]) -> list[PretrainingSource]:
    """
    Open the sources of a recipe.

    Args:
        settings: the `data` of the only source, or a mapping of names to the arguments of `PretrainingSource`. In the
            mapping, a string stands for `data`.

    Raises:
        ValueError: there is no source, or an argument is missing, unknown or wrong.
        FileNotFoundError: as for `PretrainingSource`.

    Example:
        >>> open_sources({"talks": {"data": "/data/talks", "ratio": 2}, "films": "/data/films"})
    """
    if not settings:
        raise ValueError("sources is empty; expected the place of the clips, e.g. /data/clips.")
    if isinstance(settings, str):
        settings = {"clips": settings}
    known = ("data", "captions", "ratio", "split", "subtitle_column", "caption_column")
    sources = {name: {"data": given} if isinstance(given, str) else given for name, given in settings.items()}
    for name, given in sources.items():
        if not isinstance(given, Mapping) or "data" not in given or not set(given) <= set(known):
            raise ValueError(f"The source {name} is {given!r}; expected data and perhaps {', '.join(known[1:])}.")
    return [PretrainingSource(name, **given) for name, given in sources.items()]
