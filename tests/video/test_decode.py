"""`decode_video` and `probe_video` on files made here, whose every frame is known to the last bit."""

import os
import pickle
import re
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from hf_videolang.video import VideoDecodingError, check_video, decode_video, probe_video, video_stream
from hf_videolang.video.h264 import is_reference
from hf_videolang.video.video_stream import VideoStream
from tests.video.making import picture, write_frames, write_video

here = partial(decode_video, timeout=None)  # in this process; test_decoding_helper.py tests the other one


def shown(decoded) -> list[np.ndarray]:
    return [frame.permute(1, 2, 0).numpy() for frame in decoded.frames]


def assert_shows(decoded, numbers: list[int]) -> None:
    assert decoded.indices == numbers
    assert len(decoded.frames) == len(numbers)
    for frame, number in zip(shown(decoded), numbers, strict=True):
        np.testing.assert_array_equal(frame, picture(number))


def sequential_pictures(path: Path) -> list[np.ndarray]:
    """Slow twin: every frame from the start of the file, by PyAV's own conversion."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """40 frames, 10 a second, a key frame every 12, B frames between."""
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", 40)


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_selected_frames_in_any_order(video, timeout):
    decoded = decode_video(video, [7, 0, 39, 7, 24], timeout=timeout)
    assert_shows(decoded, [7, 0, 39, 7, 24])
    assert decoded.timestamps == pytest.approx([0.7, 0.0, 3.9, 0.7, 2.4])
    assert decoded.frames.dtype == torch.uint8 and decoded.frames.shape == (5, 3, 48, 64)


@pytest.mark.parametrize(
    ("key_frame_distance", "b_frames", "options"),
    [
        (1, 0, {}),
        (5, 3, {"x264-params": "open-gop=1:keyint=5:min-keyint=5"}),
        (100, 2, {}),
        (10, 0, {"x264-params": "intra-refresh=1:keyint=10"}),  # key frames from which one cannot start
    ],
    ids=["all keys", "open groups", "one key", "gradual refresh"],
)
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_frames_do_not_depend_on_the_way_to_them(tmp_path, extension, key_frame_distance, b_frames, options):
    path = tmp_path / f"video.{extension}"
    pictures = [picture(i) for i in range(40)]
    write_video(path, pictures, key_frame_distance=key_frame_distance, b_frames=b_frames, options=options)
    for numbers in ([33], [4, 5, 6, 21, 39], [0, 14, 28], list(range(40))):
        assert_shows(here(path, numbers), numbers)


@pytest.mark.parametrize("num_threads", [0, 3])
def test_threads_do_not_change_the_frames(video, num_threads):
    assert_shows(here(video, [5, 21, 39], num_threads=num_threads), [5, 21, 39])


def test_probe(video):
    info = probe_video(video, timeout=None)
    assert (info.num_frames, info.width, info.height, info.rotation) == (40, 64, 48, 0)
    assert (info.codec, info.stream_index) == ("h264", 0)
    assert info.frames_per_second == pytest.approx(10) and info.duration == pytest.approx(4)
    assert info == here(video, []).info


def test_printing_shows_shapes_only(video):
    text = repr(here(video, [0, 39]))
    assert "[2, 3, 48, 64]" in text and "0.000..3.900 s" in text and len(text) < 400


@pytest.fixture
def decoded_ticks(monkeypatch) -> list[int]:
    """Grows by the stamp of each frame that is decoded."""
    decoded, decode = [], VideoStream._decode
    monkeypatch.setattr(VideoStream, "_decode", lambda self: (decoded.append(f.pts) or f for f in decode(self)))
    return decoded


def test_one_pass_that_converts_only_wanted_frames(video, monkeypatch, decoded_ticks):
    """The decoder seeks where a key frame (0, 12, 24, 36) lies between position and target, and nowhere else."""
    converted, convert = [], VideoStream._picture
    monkeypatch.setattr(VideoStream, "_picture", lambda self, frame: (converted.append(1), convert(self, frame))[1])
    assert_shows(here(video, [2, 9, 14, 15, 38]), [2, 9, 14, 15, 38])
    assert len(converted) == 5
    assert [ticks // 1024 for ticks in decoded_ticks] == [*range(10), *range(12, 16), *range(36, 39)]


B_FRAMES = [
    "b-adapt=0:b-pyramid=none",
    "b-adapt=0:b-pyramid=normal",
    "b-adapt=0:open-gop=1:keyint=12",
    "b-adapt=0:tff=1",
]


@pytest.mark.parametrize("parameters", B_FRAMES)
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_pictures_that_nobody_needs_are_not_decoded(tmp_path, decoded_ticks, extension, parameters):
    """B frames that no other frame is predicted from."""
    path = tmp_path / f"video.{extension}"
    write_video(path, 40, b_frames=3, codec="libx264", pixel_format="yuv420p", options={"x264-params": parameters})
    every = here(path).frames
    for frame, twin in zip(every.permute(0, 2, 3, 1).numpy(), sequential_pictures(path), strict=True):
        assert np.abs(frame.astype(int) - twin).mean() < 5  # by another conversion to RGB; other pictures are 80 off
    generator = np.random.default_rng(0)
    for count in (1, 2, 5, 12, 39):
        numbers = sorted(generator.choice(40, count, replace=False).tolist())
        assert torch.equal(here(path, numbers).frames, every[numbers])
    decoded_ticks.clear()
    here(path, [0, 11])
    assert len(decoded_ticks) <= 10 or "tff" in parameters  # interlaced files are counted


@pytest.mark.parametrize("damage", ["header", "content", "packet"])
def test_damaged_frames_are_never_handed_out(tmp_path, damage):
    """FFmpeg conceals the damage, or leaves the picture out, mostly without an error."""
    path = tmp_path / "video.mp4"
    options = {"x264-params": "b-adapt=0:b-pyramid=normal:cpu-independent=1:threads=1"}  # the same bytes everywhere
    write_video(path, 40, b_frames=3, codec="libx264", pixel_format="yuv420p", options=options)
    sound = here(path).frames
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    damaged = [packet for packet in packets if is_reference(packet)][5]
    number = sorted(packet.pts for packet in packets).index(damaged.pts)
    content, position, size = bytearray(path.read_bytes()), damaged.pos, damaged.size
    if damage == "header":
        content[position + 4] = 0  # of the unit; a type that no decoder knows
    elif damage == "content":
        content[position + size // 2 : position + size] = bytes(size - size // 2)
    else:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)

    next_group = 24
    assert number + 1 < next_group
    for numbers in ([0, 1], [1, 30], [next_group, 39]):  # before the damage, and behind the next key frame
        assert torch.equal(here(path, numbers).frames, sound[numbers])
    for numbers in ([number], [0, number + 1], None):
        with pytest.raises(VideoDecodingError, match="is damaged|of its 40 frames decode|Invalid data"):
            here(path, numbers)
    with pytest.raises(VideoDecodingError):
        check_video(path)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_videos_come_upright(tmp_path, degrees):
    path = write_video(tmp_path / "rotated.mp4", 3, rotation=degrees)
    decoded = here(path, [2])
    upright = np.rot90(picture(2), degrees // 90)  # counter-clockwise
    np.testing.assert_array_equal(shown(decoded)[0], upright)
    assert decoded.info.rotation == degrees
    assert (decoded.info.height, decoded.info.width) == upright.shape[:2]


def test_the_best_of_two_streams(tmp_path):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = []
        for width, height in ((32, 16), (64, 48)):
            stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
            streams.append(stream)
        streams[1].disposition = av.stream.Disposition.default
        for number in range(5):
            for stream in streams:
                frame = picture(number, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    decoded = here(path, [1, 4])
    assert_shows(decoded, [1, 4])
    assert decoded.info.stream_index == 1 and decoded.info.num_frames == 5


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_uneven_frame_rate(tmp_path, extension):
    times = [0.0, 0.1, 0.15, 0.4, 1.0, 1.001, 2.5]
    path = write_video(tmp_path / f"uneven.{extension}", 7, times=times)
    decoded = here(path)
    assert_shows(decoded, list(range(7)))
    assert decoded.timestamps == times
    assert_shows(here(path, start=0.15, end=1.001), [2, 3, 4])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, 0.3, [0, 1, 2]),
        (3.7, None, [37, 38, 39]),
        (1.25, 1.5, [13, 14]),  # a frame that began before the segment is not in it
        (1.3, 1.3000004, [13]),
        (1.22, 1.28, [12]),  # none begins in it: the one on show
        (3.95, 9.0, [39]),
        (-1.0, 0.05, [0]),
    ],
)
def test_segments(video, start, end, expected):
    asked = []

    def select(cut):
        asked.append(cut)
        return range(cut.num_frames)

    decoded = here(video, select, start=start, end=end)
    assert_shows(decoded, expected)
    (cut,) = asked
    assert cut.num_frames == len(expected) and cut.frame_rate == 10 and cut.time_base == Fraction(1, 10240)
    assert cut.ticks.dtype == np.int64 and cut.ticks.tolist() == [1024 * number for number in expected]
    assert cut.seconds.tolist() == decoded.timestamps
    assert cut.end == 1024 * (expected[-1] + 1) and cut.header_duration == 40 * 1024


@pytest.mark.parametrize(("start", "end"), [(4.0, 5.0), (17.0, None), (-2.0, -1.0), (None, -1.0)])
def test_a_segment_outside_the_video(video, start, end):
    with pytest.raises(VideoDecodingError, match=r"no frame lies between .* runs from 0.000 to 4.000 s"):
        here(video, start=start, end=end)


def test_a_segment_that_ends_before_it_starts(video):
    with pytest.raises(ValueError, match=r"end=1.0 must be greater than start=2.0"):
        here(video, start=2.0, end=1.0)


@pytest.mark.parametrize("wrong", [[40], [-1], [3, 99]])
def test_frames_that_do_not_exist(video, wrong):
    with pytest.raises(IndexError, match=r"video.mp4 has frames 0 to 39"):
        here(video, wrong)
    with pytest.raises(IndexError, match="has frames 0 to 9 in the segment"):
        here(video, [10], start=1.0, end=2.0)


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "text", "sound", "no index"])
def test_what_cannot_be_opened(tmp_path, video, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is not a video, whatever its name says.\n")
    elif kind == "sound":
        write_sound(path)
    elif kind == "no index":
        path.write_bytes(video.read_bytes()[:20000])  # the index of this file stands at its end
    for function in (here, partial(probe_video, timeout=None)):
        with pytest.raises(VideoDecodingError) as raised:
            function(path)
        error = raised.value
        assert error.path == str(path) and error.timestamp is None
        expected = {
            "missing": "there is no such file",
            "folder": "it is not a regular file",
            "pipe": "it is not a regular file",
            "sound": "no video stream|No valid video stream",
        }.get(kind, "Invalid data found when processing input")
        assert re.search(expected, error.reason)
        assert str(error) == f"cannot decode {path}: {error.reason}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{other}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {other}\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
        ("picture%03d.png", None),  # FFmpeg would read picture001.png
    ],
)
def test_no_file_makes_ffmpeg_open_another(tmp_path, video, name, text):
    if text is None:
        write_frames(tmp_path / "picture", 2)
        (tmp_path / "picture" / "picture_001.png").rename(tmp_path / "picture001.png")
        (tmp_path / name).write_bytes(b"no picture")
    else:
        (tmp_path / name).write_text(text.format(other=video))
    with pytest.raises(VideoDecodingError, match="it is a list of other files|Invalid data found"):
        here(tmp_path / name)


def test_too_many_pixels_or_frames_are_refused_before_they_are_decoded(video, monkeypatch, decoded_ticks):
    with monkeypatch.context() as patch:
        patch.setattr(video_stream, "MAX_PIXELS", 3000)
        with pytest.raises(VideoDecodingError, match="64x48 pixels; HF_VIDEOLANG_MAX_PIXELS allows 3,000"):
            here(video)
    with monkeypatch.context() as patch:
        patch.setattr(video_stream, "MAX_PACKETS", 39)
        with pytest.raises(VideoDecodingError, match="it declares 40 frames; at most 39 are read"):
            here(video)
    assert not decoded_ticks
    probe_video(video, timeout=None)


@pytest.fixture(scope="module")
def truncated(tmp_path_factory) -> Path:
    """The index in front promises 40 frames; the data ends somewhere behind the twentieth."""
    path = tmp_path_factory.mktemp("truncated") / "truncated.mp4"
    whole = write_video(path.with_name("whole.mp4"), 40, container_options={"movflags": "faststart"})
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    return path


def test_a_truncated_file_gives_what_it_has_and_no_more(truncated):
    with av.open(str(truncated)) as container:
        assert container.streams.video[0].frames == 40  # the header lies
    total = probe_video(truncated, timeout=None).num_frames
    assert 15 < total < 40
    assert_shows(here(truncated, [0, 3, 14]), [0, 3, 14])
    with pytest.raises(VideoDecodingError) as raised:
        here(truncated, [0, 3, total - 1])  # never a repeated frame instead
    error = raised.value
    assert 1.0 <= error.timestamp < total / 10
    assert f"(decoded up to {error.timestamp:.3f} s)" in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301, as between DataLoader workers
    assert (copy.path, copy.reason, copy.timestamp) == (str(truncated), error.reason, error.timestamp)


def test_damaged_data_is_an_error_for_the_frames_behind_it(tmp_path):
    path = write_video(tmp_path / "video.mp4", 40, key_frame_distance=40, b_frames=0)
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[positions[20] : positions[20] + 4] = b"\x7f\xff\xff\xff"  # a length that goes far beyond the packet
    path.write_bytes(content)
    assert_shows(here(path, [0, 10, 19]), [0, 10, 19])
    for numbers in ([3, 20], [39]):
        with pytest.raises(VideoDecodingError) as raised:
            here(path, numbers)
        assert raised.value.timestamp == pytest.approx(1.9)


def test_a_recording_that_starts_inside_a_group_begins_with_its_first_picture(tmp_path):
    whole = write_video(tmp_path / "whole.ts", 40, key_frame_distance=12, b_frames=0).read_bytes()
    second_key = probe_key_packet(tmp_path / "whole.ts", 1)
    cut = tmp_path / "cut.ts"
    tables, body = whole[: 188 * 3], whole[188 * 8 :]  # without the start of the first key frame
    cut.write_bytes(tables + body)
    decoded = here(cut)
    for frame, number in zip(shown(decoded), range(second_key, 40), strict=True):
        np.testing.assert_array_equal(frame, picture(number))


def test_frames_outside_an_edit_list_do_not_count(tmp_path):
    """Cut without re-encoding, an MP4 keeps the frames from the last key frame on, and tells not to show them."""
    whole = write_video(tmp_path / "whole.mp4", 40, key_frame_distance=12, b_frames=0)
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size][12:]
        origin = packets[4].pts
        for packet in packets:
            packet.pts, packet.dts, packet.stream = packet.pts - origin, packet.dts - origin, stream
            target.mux(packet)
    decoded = here(path)
    assert decoded.info.num_frames == 24 and decoded.timestamps[0] == 0
    for frame, number in zip(shown(decoded), range(16, 40), strict=True):
        np.testing.assert_array_equal(frame, picture(number))


def probe_key_packet(path: Path, which: int) -> int:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [number for number, packet in enumerate(packets) if packet.is_keyframe][which]


def test_a_picture_that_changes_its_size(tmp_path):
    parts = [write_video(tmp_path / f"{w}.h264", [picture(i, w, 48) for i in range(3)], b_frames=0) for w in (64, 32)]
    path = tmp_path / "joined.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(here(path, [0, 2]).frames) == 2
    with pytest.raises(VideoDecodingError, match="its picture changes from 64x48 to 32x48"):
        here(path, [0, 3])


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv411p", "yuv422p10le", "gray", "gray16le", "rgb48le", "bgra"])
def test_pixel_formats(tmp_path, pixel_format):
    for width, height in ((64, 48), (51, 37)):
        pictures = [picture(i, width, height) for i in range(3)]
        path = write_video(tmp_path / "video.mkv", pictures, codec="ffv1", pixel_format=pixel_format)
        for frame, original in zip(shown(here(path)), pictures, strict=True):
            if pixel_format.startswith("gray"):
                original = original @ [0.299, 0.587, 0.114]
            assert abs(frame.mean() - original.mean()) < 4  # but for the resolution of the colours
