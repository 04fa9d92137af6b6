"""A validation part for data that come without one."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from hf_videolang.data.records import Clip

HELD_OUT_SHARE = 0.1


def hold_out_validation(clips: Sequence[Clip], share: float = HELD_OUT_SHARE) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips: `share` of the videos, at least one, chosen by a hash of their id.

    The choice depends on nothing but the ids: it is the same on every machine, and a video that is added later moves
    hardly any other. Segments of one file stay on one side. A single video is not held out.
    """
    videos = defaultdict(list)
    for clip in clips:
        # resolved, for one file may be named in several ways
        videos[clip.path.resolve() if clip.path else clip.video_id.partition("#t=")[0]].append(clip)

    def draw(segments: list[Clip]) -> bytes:
        return hashlib.sha256(min(clip.video_id for clip in segments).encode()).digest()

    ordered = sorted(videos.values(), key=draw)
    count = max(1, round(len(ordered) * share)) if len(ordered) > 1 else 0
    held_out = {clip.video_id for segments in ordered[:count] for clip in segments}
    train = [clip for clip in clips if clip.video_id not in held_out]
    return train, [clip for clip in clips if clip.video_id in held_out]
