"""A validation split for data that have none."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from hf_videolang.data.records import Record, whole_video_id
from hf_videolang.data.video_files import real_path

VALIDATION_SHARE = 0.1


def split_off_validation(
    records: Sequence[Record], share: float = VALIDATION_SHARE
) -> tuple[list[Record], list[Record]]:
    """Splits records into training and validation: `share` of the videos, at least one, chosen by a hash of their ids.

    The choice depends on the ids alone. It is the same on every machine, and videos added later change it little. All
    segments of one file stay on one side. A single video stays in training. Both lists keep the given order.
    """
    videos = defaultdict(list)
    for record in records:  # several names may lead to one file
        videos[real_path(record.path) if record.path else whole_video_id(record.video_id)].append(record)

    def draw(segments: list[Record]) -> bytes:
        return hashlib.sha256(min(record.video_id for record in segments).encode()).digest()

    ordered = sorted(videos.values(), key=draw)
    count = max(1, round(len(ordered) * share)) if len(ordered) > 1 else 0
    chosen = {record.video_id for segments in ordered[:count] for record in segments}
    train = [record for record in records if record.video_id not in chosen]
    return train, [record for record in records if record.video_id in chosen]
