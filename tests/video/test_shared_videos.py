"""Every published clip, unusual file and broken file of the shared set, decoded in the helper process."""

import json
import re

import av
import numpy as np
import pytest

from hf_videolang.video import VideoDecodingError, decode_video
from hf_videolang.video.decode import with_stream
from tests.parity.cases import SHARED

VIDEOS = SHARED / "data" / "video"
pytestmark = pytest.mark.skipif(not VIDEOS.exists(), reason="needs the shared video set, ../shared/data/video")


def sound_files() -> list[dict]:
    manifest = json.loads((VIDEOS / "manifest.json").read_text()) if VIDEOS.exists() else {}
    entries = [*manifest.get("clips", []), *manifest.get("edge", [])]
    for entry in entries:
        if entry["file"] == "clips/video26.mp4":  # the manifest describes its first stream, not the best
            entry["media"].update(coded_width=480, coded_height=270, frames_decoded=390, last_pts=None)
    return entries


def frames_in_order(path: str, numbers: list[int]) -> list[np.ndarray]:
    """The stored pictures of these frames, by FFmpeg decoding in order: no index, no seeking, nothing left out."""
    pictures = []
    with av.open(path) as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        for number, frame in enumerate(container.decode(stream)):
            if number in numbers:
                graph = av.filter.Graph()
                graph.link_nodes(graph.add_buffer(stream), graph.add("format", "rgb24"), graph.add("buffersink"))
                graph.configure()
                graph.vpush(frame)
                pictures.append(graph.vpull().to_ndarray())
            if number == max(numbers):
                return pictures
    raise AssertionError(f"{path} has no frame {max(numbers)}")


@pytest.mark.parametrize("entry", sound_files(), ids=lambda entry: entry["file"])
def test_sound_files(entry):
    """The manifest's facts, and the frames of plain decoding: the first, some between, in smaller files the last."""
    media, path = entry["media"], str(VIDEOS / entry["file"])
    count, is_small = media["frames_decoded"], entry["bytes"] < 700_000
    numbers = sorted({0, 1 % count, count // 8, count // 5, *((count // 2, count - 1) if is_small else ())})
    decoded = decode_video(path, numbers)
    info, rotation = decoded.info, media["rotation_metadata"] % 360
    size = (media["coded_width"], media["coded_height"])
    assert (info.num_frames, info.codec, info.rotation) == (count, media["codec"], rotation)
    assert (info.width, info.height) == (size[::-1] if rotation in (90, 270) else size)
    assert not info.is_truncated
    if media["last_pts"] is not None and media["container"] != "avi":
        assert decoded.timestamps[0] == pytest.approx(media["first_pts"], abs=2e-3)
        if is_small:
            assert decoded.timestamps[-1] == pytest.approx(media["last_pts"], abs=2e-3)
    for frame, picture in zip(decoded.frames, frames_in_order(path, numbers), strict=True):
        upright = np.rot90(picture, rotation // 90)
        np.testing.assert_array_equal(frame.permute(1, 2, 0), upright)


FOLDERS = ("clips", "edge", "reports")
WITHOUT_VIDEO = {"reports/song_with_cover.mp3", "reports/song_with_cover.mp4"}
SMALL = (24, 16)  # width and height at which every frame is compared, so that the test is quick


def files_in(*folders: str) -> list[str]:
    files = [file for folder in folders for file in (VIDEOS / folder).glob("*") if file.suffix != ".md"]
    return sorted(file.relative_to(VIDEOS).as_posix() for file in files)


def all_small_frames_in_order(path: str, rotation: int) -> list[np.ndarray]:
    """Every frame upright, by FFmpeg decoding in order. Packets that repeat a picture are left out."""
    size = SMALL[::-1] if rotation in (90, 270) else SMALL
    with av.open(path) as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        graph = av.filter.Graph()
        scale, pixels = graph.add("scale", f"{size[0]}:{size[1]}"), graph.add("format", "rgb24")
        graph.link_nodes(graph.add_buffer(stream), scale, pixels, graph.add("buffersink")).configure()
        pictures = []
        for packet in container.demux(stream):
            for frame in packet.decode() if packet.size or packet.dts is None else ():
                graph.vpush(frame)
                pictures.append(np.rot90(graph.vpull().to_ndarray(), rotation // 90))
    return pictures


@pytest.mark.parametrize("file", sorted({*files_in(*FOLDERS)} - WITHOUT_VIDEO))
def test_every_frame_is_that_of_decoding_in_order(file):
    """All frames in one pass, and a few with seeks between them."""

    def read(numbers):
        def pictures(stream):
            chosen = range(stream.info.num_frames) if numbers is None else numbers
            return stream.info, list(stream.pictures(chosen, SMALL))

        return with_stream(pictures, VIDEOS / file, timeout=None)

    info, pictures = read(None)
    expected = all_small_frames_in_order(str(VIDEOS / file), info.rotation)
    assert len(pictures) == len(expected) == info.num_frames
    different = [n for n, (one, other) in enumerate(zip(pictures, expected)) if not np.array_equal(one, other)]
    assert different == []
    few = sorted({(2 * k + 1) * len(expected) // 6 for k in range(3)})
    for number, picture in zip(few, read(few)[1], strict=True):
        assert np.array_equal(picture, expected[number]), number


def test_every_file_is_in_a_test():
    entries = {entry["file"] for entry in sound_files()}
    assert entries == {*files_in("clips", "edge")}
    assert {f"broken/{file}" for file, *_ in BROKEN} == {*files_in("broken")}
    for file in WITHOUT_VIDEO:
        with pytest.raises(VideoDecodingError, match="it has no video stream"):
            decode_video(VIDEOS / file)


NO_VIDEO, INVALID = "no video stream", "Invalid data found when processing input"
# file, frames asked for, expected reason and timestamp of the error (None: the frames come)
BROKEN = [
    ("audio_only.mp4", [0], NO_VIDEO, None),
    ("no_streams.mp4", [0], NO_VIDEO, None),
    ("undecodable.avi", [0], "its video stream has no frames", None),
    ("truncated_index_missing.mp4", [0], INVALID, None),
    ("empty.mp4", [0], INVALID, None),
    ("text.mp4", [0], INVALID, None),
    ("corrupted_middle.mp4", [0, 27], None, None),
    ("corrupted_middle.mp4", [0, 28], INVALID, 2.7),
    ("corrupted_middle.mp4", [0, 49], INVALID, 2.7),
    ("truncated_index_present.mp4", [0, 40, 77], None, None),
    ("truncated_index_present.mp4", [0, 40, 80], INVALID, 2.5693),
    ("truncated.mkv", [0, 20, 46], None, None),
    ("truncated.gif", [0, 10, 14], None, None),
]
# packets that are there; 28 and 78 of the first two decode
NUM_FRAMES = {
    "corrupted_middle.mp4": 50,
    "truncated_index_present.mp4": 81,
    "truncated.mkv": 47,
    "truncated.gif": 16,
}


@pytest.mark.parametrize(("file", "numbers", "reason", "timestamp"), BROKEN)
def test_broken_files_give_their_frames_or_an_error(file, numbers, reason, timestamp):
    path = VIDEOS / "broken" / file
    if reason is None:
        decoded = decode_video(path, numbers)
        assert decoded.info.num_frames == NUM_FRAMES[file]
        assert len({frame.numpy().tobytes() for frame in decoded.frames.contiguous()}) == len(numbers)
        assert decoded.info.is_truncated == (file in ("truncated_index_present.mp4", "truncated.mkv"))
        return
    with pytest.raises(VideoDecodingError) as raised:
        decode_video(path, numbers)
    assert re.search(reason, raised.value.reason)
    assert raised.value.timestamp == pytest.approx(timestamp, abs=1e-3)
