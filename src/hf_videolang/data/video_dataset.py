"""What benchmarks and folders of one's own have in common: splits of records, read one at a time or joined."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_videolang.data.protocol import Protocol, join_protocols
from hf_videolang.data.records import Record, count_records, name_some, records_to_dataset

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


def leave_out_absent(records: list[Record], protocol: Protocol) -> tuple[list[Record], Protocol]:
    """The records whose video is there, and their protocol: "3305 of 3350 videos". Others are a warning.

    If no video is there, all records come back, and their check raises.
    """
    there = [record for record in records if record.has_video]
    if not there or len(there) == len(records):
        return records, protocol
    absent = list(dict.fromkeys(record.video_id for record in records if not record.has_video))
    logger.warning("Left out %d videos that have no file: %s.", len(absent), name_some(absent))
    counts = protocol.counts | {what: n for what, n in count_records(there).items() if what in protocol.counts}
    return there, replace(
        protocol, counts=counts, published={"videos": protocol.counts["videos"]} | protocol.published
    )


@dataclass(frozen=True, kw_only=True)
class VideoDataset:
    """A dataset by its splits; see `find_dataset`.

    Attributes:
        name: of the benchmark, or of the folder.
        task: a key of `TASK_COLUMNS`, e.g. "retrieval".
        main_score: the score that papers compare, as the logs call it.
        source: where videos and annotations can be had.
        licence: of videos and annotations, as far as it is known.
        citation: the paper to cite.
        unnamed: videos in a folder that no row of its metadata names.
        splits: the splits that `read` takes.
    """

    name: str
    task: str
    main_score: str = "text_to_video_R1"
    source: str
    licence: str = ""
    citation: str = ""
    unnamed: Sequence[Path] = ()

    @property
    def splits(self) -> Sequence[str]:
        return ("train", "validation", "test")

    def read(self, split: str | None = None) -> tuple[list[Record], Protocol]:
        """Reads the records of a split. Absent videos, blank captions and repeated ids stay in.

        Args:
            split: one of `splits`, or several joined by "+". Default: "test", or all splits where there is no test.

        Raises:
            ValueError: no such split, or an annotation file has another layout than expected.
            FileNotFoundError: the annotation of the split is absent.
        """
        parts = (split or ("test" if "test" in self.splits else "+".join(self.splits))).split("+")
        if unknown := [part for part in parts if part not in self.splits]:
            known = ", ".join(self.splits)
            raise ValueError(
                f"{self.name} has no split {', '.join(unknown)}; it has {known}, or several joined by '+'."
            )
        read = [self._read_split(part) for part in parts]
        return [record for records, _ in read for record in records], join_protocols(
            [protocol for _, protocol in read]
        )

    def load(
        self, split: str | None = None, need_videos: bool = True, skip_absent: bool = False
    ) -> tuple["Dataset", Protocol]:
        """Reads a split, checks it (`records_to_dataset`) and returns it as a `datasets.Dataset`, with its protocol.

        Videos that the metadata of a folder does not name are left out with a warning, and with `skip_absent` those
        without a file, too. Without `need_videos`, files may be absent, and the records name none: stored features are
        read in their place.
        """
        records, protocol = self.read(split)
        if skip_absent and need_videos:
            records, protocol = leave_out_absent(records, protocol)
        if self.unnamed:
            logger.warning(
                "Left out %d videos that no row of the metadata names: %s.", len(self.unnamed), name_some(self.unnamed)
            )
        dataset = records_to_dataset(records, self.task, need_videos)
        if "captions" in protocol.counts and "captions" in dataset.column_names:  # blank captions are no queries
            protocol = replace(protocol, counts=protocol.counts | {"captions": sum(map(len, dataset["captions"][:]))})
        return dataset, protocol

    def _read_split(self, split: str) -> tuple[list[Record], Protocol]:
        raise NotImplementedError
