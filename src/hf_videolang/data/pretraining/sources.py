"""Where pre-training clips come from: shards of records with a video and a subtitle, and captions of middle frames."""

from collections.abc import Collection, Mapping
from typing import Any
from zlib import crc32

from hf_videolang.data.records import clip_of, name_some
from hf_videolang.data.shards.open_shards import count_clips, find_shards
from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.video_files import video_size


class PretrainingSource:
    """
    One collection of clips that pre-training takes batches from.

    Args:
        name: of the source, in messages.
        data: folder of `.tar` or `.parquet` files, a glob, one such file, a video folder or a Hub data set, see
            `find_shards`. Clips are read in random order, so pack a large collection as tar shards, which give out
            one clip; of a Parquet file each clip costs a whole row group.
        captions (*optional*): folder of a caption store made of the same shards (`hf-videolang caption`). Without it
            captions come from the records.
        ratio (defaults to 1): how often a batch comes from here, relative to the other sources.
        split (defaults to `"train"`): of a Hub data set or a video folder.
        subtitle_column (defaults to `"subtitle"`), caption_column (defaults to `"caption"`): fields of the records
            with what is said in the clip, and with a sentence about its middle frame. Text, or a list of sentences
            that are joined by spaces.

    Raises:
        FileNotFoundError, ValueError: no shards there, or no caption store of them.
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
                f"{captions} has no captions of {name_some([shard.name for shard in self.shards])}: it was made of "
                f"other shards than those of the source {name}, or nothing is captioned yet."
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
            `caption`, each `""` where there is none.

        Raises:
            ValueError: a column holds no text, or the caption store is of other shards.
            VideoDecodingError: the record has no video, or times that are none.
        """
        record = self.shards[shard][row]
        name, video_id = self.shards[shard].name, record["video_id"]
        caption = record.get(self.caption_column) if self.store is None else self._stored(name, row, record)
        return {
            "video": clip_of(record, f"{video_id} in {name}"),
            "video_id": video_id,
            "shard": name,
            "subtitle": self._text(record.get(self.subtitle_column), self.subtitle_column),
            "caption": self._text(caption, self.caption_column),
        }

    def check_columns(self, needed: Collection[str]) -> None:
        """
        Raises:
            ValueError: the first 100 records all lack a column that is `needed` ("subtitle", "caption"), and names
                those they have; or the first is not the one that the caption store has.
        """
        shard = next(shard for shard in self.shards if len(shard))
        if self.store is not None:
            self._stored(shard.name, 0, shard[0])
        columns = {"subtitle": self.subtitle_column}
        if self.store is None:
            columns["caption"] = self.caption_column
        columns = {name: column for name, column in columns.items() if name in needed}
        known: dict[str, Any] = {}
        for row in range(min(len(shard), 100)):  # a clip may lack a text, and a tar then has no such field
            known |= shard[row]
            if known.keys() >= set(columns.values()):
                break
        for name, column in columns.items():
            if column not in known:
                store = ", or give a caption store as captions" if name == "caption" else ""
                raise ValueError(
                    f"the records of the source {self.name} have no {column!r} but {', '.join(known)}. Name the column "
                    f"with {name}_column{store}."
                )

    def fingerprint(self) -> dict[str, int]:
        """What the order of the clips depends on."""
        listed = "".join(f"{shard.name} {clips}\n" for shard, clips in zip(self.shards, self.lengths))
        return {"ratio": self.ratio, "clips": sum(self.lengths), "shards_crc32": crc32(listed.encode())}

    def _stored(self, shard_name: str, row: int, record: Mapping[str, Any]) -> str | None:
        assert self.store is not None
        return self.store.caption(shard_name, row, record["video_id"], video_size(record["video"]))

    def _text(self, value: Any, column: str) -> str:
        if isinstance(value, list) and all(isinstance(sentence, str) for sentence in value):
            value = " ".join(value)
        if not isinstance(value, str | None):
            raise ValueError(
                f"the column {column} of the source {self.name} holds {type(value).__name__}; expected text."
            )
        return (value or "").strip()


def open_sources(settings: str | Mapping[str, Any]) -> list[PretrainingSource]:
    """
    The sources of a recipe.

    Args:
        settings: where the clips of the only source are, or name -> arguments of [`PretrainingSource`]; a mere string
            among these stands for `data`.

    Raises:
        ValueError: no source, or an unknown or missing argument.
        FileNotFoundError: as in [`PretrainingSource`].
    """
    if isinstance(settings, str):
        settings = {"clips": settings}
    if not settings:
        raise ValueError("sources is empty; expected where the clips are, e.g. /data/clips.")
    return [_open(name, {"data": given} if isinstance(given, str) else given) for name, given in settings.items()]


def _open(name: str, arguments: Any) -> PretrainingSource:
    known = ("data", "captions", "ratio", "split", "subtitle_column", "caption_column")
    if not isinstance(arguments, Mapping) or "data" not in arguments or not set(arguments) <= set(known):
        raise ValueError(
            f"the source {name} is {arguments!r}; expected the key data and perhaps {', '.join(known[1:])}."
        )
    if not isinstance(arguments.get("ratio", 1), int):
        raise ValueError(f"the source {name} has the ratio {arguments['ratio']!r}; expected 1, 2, 3, …")
    return PretrainingSource(name, **arguments)
