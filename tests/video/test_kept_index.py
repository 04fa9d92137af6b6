"""Segments of a long video: the index of the first serves the next, as long as the file does not change."""

import io
import os

import pytest
import torch

from hf_videolang.video import VideoDecodingError, decode_video, kept_index, video_stream
from hf_videolang.video.sources import FilePart
from tests.video.making import write_video


@pytest.fixture
def passes(tmp_path, monkeypatch):
    """How often all packets of a file were read, in a home of its own where 30 frames are long."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(video_stream, "LONG", 30)
    passes, read_packets = [], video_stream.VideoStream._read_packets
    monkeypatch.setattr(
        video_stream.VideoStream, "_read_packets", lambda stream: passes.append(stream.name) or read_packets(stream)
    )
    return passes


def decode(path, start=None, end=None):
    return decode_video(path, start=start, end=end, timeout=None)


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".webm"])
def test_segments_are_those_of_the_whole_video(tmp_path, passes, extension):
    codec = {"codec": "libvpx-vp9", "pixel_format": "yuv420p"} if extension == ".webm" else {}
    path = write_video(tmp_path / f"long{extension}", 60, **codec)
    whole = decode(path)
    segments = [decode(path, start, start + 1.5) for start in (4.0, 0.0, 2.5)]
    assert len(passes) == 1
    for segment, first in zip(segments, (40, 0, 25)):
        assert segment.indices == list(range(first, first + 15))
        assert torch.equal(segment.frames, whole.frames[first : first + 15])
        assert segment.timestamps == whole.timestamps[first : first + 15] and segment.info == whole.info
    assert decode_video(path, range(5)).info == whole.info  # another process agrees


def test_a_part_of_a_file_is_read_as_a_file_of_its_own(tmp_path, passes):
    """Also by a helper process, and if its pictures have to be counted."""
    for extension in (".mp4", ".avi"):
        path = write_video(tmp_path / f"long{extension}", 60)
        outer, content = tmp_path / f"outer{extension}", path.read_bytes()
        outer.write_bytes(b"x" * 777 + content + b"y" * 777)
        part, whole = FilePart(str(outer), 777, len(content)), decode(path)
        for timeout in (None, 60.0):
            segment = decode_video(part, start=4.0, end=5.5, timeout=timeout)
            assert torch.equal(segment.frames, whole.frames[40:55]) and segment.info == whole.info
    assert len(passes) == 4  # of each file and of each part, in this process
    with pytest.raises(VideoDecodingError, match=f"{outer}: "):
        decode(FilePart(str(outer), 778, len(content)))


def test_a_changed_file_is_read_again(tmp_path, passes):
    path = write_video(tmp_path / "long.mp4", 60)
    decode(path)
    write_video(path, 40)
    assert decode(path).info.num_frames == 40 and len(passes) == 2


def test_a_damaged_index_is_made_again(tmp_path, passes):
    path = write_video(tmp_path / "long.mp4", 60)
    decode(path)
    (index,) = (tmp_path / "home" / "hf_videolang" / "video_indices").iterdir()
    for content in (b"", index.read_bytes()[:1000]):
        index.write_bytes(content)
        assert decode(path).info.num_frames == 60
    assert len(passes) == 3 and kept_index.read_index(str(path))[1].size == 60


def test_short_videos_and_bytes_leave_nothing(tmp_path, passes):
    short, long = write_video(tmp_path / "short.mp4", 20), write_video(tmp_path / "long.mp4", 60)
    for source in (short, long.read_bytes(), io.BytesIO(long.read_bytes())):
        decode(source)
    assert not os.path.exists(tmp_path / "home")
