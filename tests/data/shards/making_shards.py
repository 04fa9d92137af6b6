"""Tar shards of real videos for the tests of pre-training, written by `tarfile` alone."""

import io
import json
import tarfile
from pathlib import Path

from hf_videolang.data.moving_shapes import write_moving_shapes

SHARD_LENGTHS = (7, 7, 7, 5)


def write_clip_shards(folder: Path, **changes: dict) -> Path:
    """
    `folder/clips-0.tar` …: 26 videos of 10 frames, with a `subtitle` and a `caption` that name the clip.

    `changes`: video id → what replaces fields of its JSON (`None` takes one away), or `bytes` of its video.
    """
    videos = write_moving_shapes(folder / "videos", num_train=sum(SHARD_LENGTHS), num_test=1, num_frames=10)
    shards, number = folder / "shards", 0
    shards.mkdir()
    for index, length in enumerate(SHARD_LENGTHS):
        with tarfile.open(shards / f"clips-{index}.tar", "w") as tar:
            for _ in range(length):
                name = f"clip{number:02d}"
                fields = {"subtitle": f"somebody says {number}", "caption": f"a picture of {number}"}
                video = (videos / "train" / f"train{number:04d}.mp4").read_bytes()
                change = dict(changes.get(name, {}))
                video = change.pop("bytes", video)
                fields = {key: text for key, text in (fields | change).items() if text is not None}
                for suffix, content in (("mp4", video), ("json", json.dumps(fields).encode())):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                number += 1
    return shards
