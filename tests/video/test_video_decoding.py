"""`decode_video` and `probe_video` on files made here, whose every frame is known to the last bit."""

import io
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from hf_videolang.video import VideoDecodingError, decode_video, probe_video
from hf_videolang.video.pyav_stream import PyAVStream, is_reference
from hf_videolang.video.torchcodec_stream import TorchCodecStream
from tests.video.making import picture, write_video

WITHOUT = Path(__file__).parents[1] / "common" / "without.py"
here = partial(decode_video, timeout=None)  # in this process; test_decoding_helper.py is about the other one


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
def test_selected_frames_in_any_order(video, backend, timeout):
    decoded = decode_video(video, [7, 0, 39, 7, 24], backend=backend, timeout=timeout)
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
def test_frames_do_not_depend_on_the_way_to_them(tmp_path, backend, extension, key_frame_distance, b_frames, options):
    path = tmp_path / f"video.{extension}"
    pictures = [picture(i) for i in range(40)]
    write_video(path, pictures, key_frame_distance=key_frame_distance, b_frames=b_frames, options=options)
    for numbers in ([33], [4, 5, 6, 21, 39], [0, 14, 28], list(range(40))):
        assert_shows(here(path, numbers, backend=backend), numbers)


@pytest.mark.parametrize("num_threads", [0, 3])
def test_threads_do_not_change_the_frames(video, backend, num_threads):
    assert_shows(here(video, [5, 21, 39], backend=backend, num_threads=num_threads), [5, 21, 39])


def test_probe(video, backend):
    info = probe_video(video, backend=backend, timeout=None)
    assert (info.num_frames, info.width, info.height, info.rotation) == (40, 64, 48, 0)
    assert (info.codec, info.stream_index) == ("h264", 0)
    assert info.frames_per_second == pytest.approx(10) and info.duration == pytest.approx(4)
    assert info == here(video, [], backend=backend).info


def test_printing_shows_shapes_only(video):
    text = repr(here(video, [0, 39]))
    assert "[2, 3, 48, 64]" in text and "0.000..3.900 s" in text and len(text) < 400


def test_one_pass_that_converts_only_wanted_frames(video, backend, monkeypatch):
    """Seeks where a key frame (0, 12, 24, 36) lies between position and target, and nowhere else."""
    stream_class = {"pyav": PyAVStream, "torchcodec": TorchCodecStream}[backend]
    sought, decoded, converted = [], [], []
    seek, decode, convert = stream_class._seek, stream_class._decode, stream_class._picture
    monkeypatch.setattr(stream_class, "_seek", lambda self, s: (sought.append(round(s, 3)), seek(self, s))[1])
    monkeypatch.setattr(
        stream_class, "_decode", lambda self: (decoded.append(pair[0]) or pair for pair in decode(self))
    )
    monkeypatch.setattr(stream_class, "_picture", lambda self, frame: (converted.append(1), convert(self, frame))[1])
    assert_shows(here(video, [2, 9, 14, 15, 38], backend=backend), [2, 9, 14, 15, 38])
    assert sought == [1.2, 3.6]
    assert len(converted) == 5
    wanted = [*range(10), *range(12, 16), *range(36, 39)]
    assert [round(seconds * 10) for seconds in decoded] == wanted


B_FRAMES = [
    "b-adapt=0:b-pyramid=none",
    "b-adapt=0:b-pyramid=normal",
    "b-adapt=0:open-gop=1:keyint=12",
    "b-adapt=0:tff=1",
]


@pytest.mark.parametrize("parameters", B_FRAMES)
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_pictures_that_nobody_needs_are_not_decoded(tmp_path, monkeypatch, extension, parameters):
    """B frames to which no other frame refers."""
    path = tmp_path / f"video.{extension}"
    write_video(path, 40, b_frames=3, codec="libx264", pixel_format="yuv420p", options={"x264-params": parameters})
    every = here(path, range, backend="pyav").frames
    for frame, twin in zip(every.permute(0, 2, 3, 1).numpy(), sequential_pictures(path), strict=True):
        assert np.abs(frame.astype(int) - twin).mean() < 5  # by another conversion to RGB; other pictures are 80 off
    decoded, decode = [], PyAVStream._decode
    monkeypatch.setattr(PyAVStream, "_decode", lambda self: (decoded.append(1) or pair for pair in decode(self)))
    generator = np.random.default_rng(0)
    for count in (1, 2, 5, 12, 39):
        numbers = sorted(generator.choice(40, count, replace=False).tolist())
        assert torch.equal(here(path, numbers, backend="pyav").frames, every[numbers])
    decoded.clear()
    here(path, [0, 11], backend="pyav")
    assert "tff" in parameters or len(decoded) <= 10  # of twelve, but for interlaced files
    stream = PyAVStream(str(path), path.name)
    for number in range(40):  # one by one: what is asked for next may have been left out
        np.testing.assert_array_equal(next(stream.pictures([number])), every[number].permute(1, 2, 0))
    stream.close()


@pytest.mark.parametrize("damage", ["header", "content", "packet"])
def test_damage_is_told_whatever_is_asked_for(tmp_path, monkeypatch, damage):
    """As where every picture is decoded."""
    path = tmp_path / "video.mp4"
    options = {"x264-params": "b-adapt=0:b-pyramid=normal"}
    write_video(path, 40, b_frames=3, codec="libx264", pixel_format="yuv420p", options=options)
    with av.open(str(path)) as container:
        packets = [
            (packet.pos, packet.size, is_reference(packet)) for packet in container.demux(video=0) if packet.size
        ]
    position, size, _ = [packet for packet in packets if packet[2]][5]
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[position + 4] = 0  # of the unit; a type that no decoder knows
    elif damage == "content":
        content[position + size // 2 : position + size // 2 + 8] = bytes(8)
    else:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)

    def outcome(numbers: list[int]) -> list:
        try:
            return here(path, numbers, backend="pyav").frames.tolist()
        except VideoDecodingError as error:
            return [error.reason, error.timestamp]

    requests = [[0, 1], [3, 30], [12, 13, 14], [39], [20, 21, 22]]
    found = [outcome(numbers) for numbers in requests]
    monkeypatch.setattr("hf_videolang.video.pyav_stream.is_reference", lambda packet: True)
    assert found == [outcome(numbers) for numbers in requests]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_videos_come_upright(tmp_path, backend, degrees):
    path = write_video(tmp_path / "rotated.mp4", 3, rotation=degrees)
    decoded = here(path, [2], backend=backend)
    upright = np.rot90(picture(2), degrees // 90)  # counter-clockwise
    np.testing.assert_array_equal(shown(decoded)[0], upright)
    assert decoded.info.rotation == degrees
    assert (decoded.info.height, decoded.info.width) == upright.shape[:2]


def test_the_best_of_two_streams(tmp_path, backend):
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
    decoded = here(path, [1, 4], backend=backend)
    assert_shows(decoded, [1, 4])
    assert decoded.info.stream_index == 1 and decoded.info.num_frames == 5


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_uneven_frame_rate(tmp_path, backend, extension):
    times = [0.0, 0.1, 0.15, 0.4, 1.0, 1.001, 2.5]
    path = write_video(tmp_path / f"uneven.{extension}", 7, times=times)
    decoded = here(path, range, backend=backend)
    assert_shows(decoded, list(range(7)))
    assert decoded.timestamps == times
    assert_shows(here(path, range, start=0.15, end=1.001, backend=backend), [2, 3, 4])


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
def test_segments(video, backend, start, end, expected):
    asked = []

    def select(num_frames):
        asked.append(num_frames)
        return range(num_frames)

    decoded = here(video, select, start=start, end=end, backend=backend)
    assert_shows(decoded, expected)
    assert asked == [len(expected)]


@pytest.mark.parametrize(("start", "end"), [(4.0, 5.0), (17.0, None), (-2.0, -1.0), (None, -1.0)])
def test_a_segment_outside_the_video(video, start, end):
    with pytest.raises(VideoDecodingError, match=r"no frame lies between .* runs from 0.000 to 4.000 s"):
        here(video, range, start=start, end=end)


def test_a_segment_that_ends_before_it_starts(video):
    with pytest.raises(ValueError, match=r"end=1.0 must be greater than start=2.0"):
        here(video, range, start=2.0, end=1.0)


@pytest.mark.parametrize("wrong", [[40], [-1], [3, 99]])
def test_frames_that_do_not_exist(video, wrong):
    with pytest.raises(IndexError, match=r"video.mp4 has frames 0 to 39"):
        here(video, wrong)
    with pytest.raises(IndexError, match="has frames 0 to 9 in the segment"):
        here(video, [10], start=1.0, end=2.0)


def test_every_kind_of_source(video):
    content = video.read_bytes()
    with open(video, "rb") as file:
        file.read(100)  # it is read from its start nevertheless
        for source in (video, str(video), content, bytearray(content), io.BytesIO(content), file):
            assert_shows(decode_video(source, [3]), [3])
    with pytest.raises(TypeError, match="int is no video source; pass a path, URL, bytes or a binary file"):
        decode_video(3, [0])
    with open(video, encoding="latin-1") as file, pytest.raises(TypeError, match=r"reads as str; .*\('rb'\)"):
        decode_video(file, [0])


def test_a_relative_path_is_not_taken_for_a_protocol(video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "concat:a|b.mp4").write_bytes(video.read_bytes())
    assert_shows(here("concat:a|b.mp4", [1]), [1])


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/stalls.mp4":
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            time.sleep(5)
        elif self.path == "/breaks_off.mp4":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"\x00" * 1000)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(video):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(video.parent)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_urls(server):
    assert_shows(decode_video(f"{server}/video.mp4", [5]), [5])
    for page, reason in [
        ("missing.mp4", "the download failed: .*404"),
        ("breaks_off.mp4", "the download broke off after 1000 of 1000000 bytes"),
        ("stalls.mp4", "the download failed: .*timed out"),
    ]:
        with pytest.raises(VideoDecodingError, match=reason) as raised:
            decode_video(f"{server}/{page}", [0], timeout=0.5)
        assert raised.value.path == f"{server}/{page}"


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "text", "sound", "no index"])
def test_what_cannot_be_opened(tmp_path, backend, video, kind):
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
    for function in (partial(here, select=range), partial(probe_video, timeout=None)):
        with pytest.raises(VideoDecodingError) as raised:
            function(path, backend=backend)
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


@pytest.fixture(scope="module")
def truncated(tmp_path_factory) -> Path:
    """The index in front promises 40 frames; the data ends somewhere behind the twentieth."""
    path = tmp_path_factory.mktemp("truncated") / "truncated.mp4"
    whole = write_video(path.with_name("whole.mp4"), 40, container_options={"movflags": "faststart"})
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    return path


def test_a_truncated_file_gives_what_it_has_and_no_more(truncated, backend):
    with av.open(str(truncated)) as container:
        assert container.streams.video[0].frames == 40  # the header lies
    total = probe_video(truncated, backend=backend, timeout=None).num_frames
    assert 15 < total < 40
    assert_shows(here(truncated, [0, 3, 14], backend=backend), [0, 3, 14])
    with pytest.raises(VideoDecodingError) as raised:
        here(truncated, [0, 3, total - 1], backend=backend)  # never a repeated frame instead
    error = raised.value
    assert 1.0 <= error.timestamp < total / 10
    assert f"(decoded up to {error.timestamp:.3f} s)" in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301, as between DataLoader workers
    assert (copy.path, copy.reason, copy.timestamp) == (str(truncated), error.reason, error.timestamp)


def test_damaged_data_is_an_error_for_the_frames_behind_it(tmp_path, backend):
    path = write_video(tmp_path / "video.mp4", 40, key_frame_distance=40, b_frames=0)
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[positions[20] : positions[20] + 4] = b"\x7f\xff\xff\xff"  # a length that goes far beyond the packet
    path.write_bytes(content)
    assert_shows(here(path, [0, 10, 19], backend=backend), [0, 10, 19])
    for numbers in ([3, 20], [39]):
        with pytest.raises(VideoDecodingError) as raised:
            here(path, numbers, backend=backend)
        assert raised.value.timestamp == pytest.approx(1.9)


def test_a_recording_that_starts_amid_a_group_begins_with_its_first_picture(tmp_path, backend):
    whole = write_video(tmp_path / "whole.ts", 40, key_frame_distance=12, b_frames=0).read_bytes()
    second_key = probe_key_packet(tmp_path / "whole.ts", 1)
    cut = tmp_path / "cut.ts"
    tables, body = whole[: 188 * 3], whole[188 * 8 :]  # without the start of the first key frame
    cut.write_bytes(tables + body)
    decoded = here(cut, range, backend=backend)
    for frame, number in zip(shown(decoded), range(second_key, 40), strict=True):
        np.testing.assert_array_equal(frame, picture(number))


def test_frames_outside_an_edit_list_do_not_count(tmp_path, backend):
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
    decoded = here(path, range, backend=backend)
    assert decoded.info.num_frames == 24 and decoded.timestamps[0] == 0
    for frame, number in zip(shown(decoded), range(16, 40), strict=True):
        np.testing.assert_array_equal(frame, picture(number))


def probe_key_packet(path: Path, which: int) -> int:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [number for number, packet in enumerate(packets) if packet.is_keyframe][which]


@pytest.mark.parametrize("extension", ["avi", "mpg"])
def test_containers_without_frame_times_are_counted(tmp_path, backend, extension):
    """B frames in AVI: their time stamps are guesses, and differ between the versions of FFmpeg."""
    codec = {"avi": "mpeg4", "mpg": "mpeg2video"}[extension]
    path = write_video(
        tmp_path / f"video.{extension}",
        30,
        rate=25,
        codec=codec,
        pixel_format="yuv420p",
        key_frame_distance=10,
    )
    expected = sequential_pictures(path)
    assert len(expected) == 30
    decoded = here(path, [0, 13, 29], backend=backend)
    for frame, number in zip(shown(decoded), [0, 13, 29], strict=True):
        difference = np.abs(frame.astype(int) - expected[number]).max()
        assert difference <= 2  # MPEG-4 part 2 is rounded differently in FFmpeg 5 and 8
        assert difference < np.abs(frame.astype(int) - expected[number - 1]).max()
    assert decoded.timestamps == pytest.approx([0, 13 / 25, 29 / 25])


def test_a_picture_that_changes_its_size(tmp_path):
    parts = [write_video(tmp_path / f"{w}.h264", [picture(i, w, 48) for i in range(3)], b_frames=0) for w in (64, 32)]
    path = tmp_path / "joined.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(here(path, [0, 2], backend="pyav").frames) == 2
    with pytest.raises(VideoDecodingError, match="its picture changes from 64x48 to 32x48"):
        here(path, [0, 3], backend="pyav")


PIXEL_FORMATS = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "yuv420p10le",
    "yuv422p10le",
    "gray",
    "bgra",
    "yuva420p",
]


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_both_back_ends_give_the_same_bits(tmp_path, pixel_format, torchcodec):
    for width, height in (
        (64, 48),
        (64, 37),
        (51, 37),
        (50, 38),
    ):  # torchcodec converts widths of 32 n in its own way
        pictures = [picture(i, width, height) for i in range(3)]
        path = write_video(tmp_path / "video.mkv", pictures, codec="ffv1", pixel_format=pixel_format)
        first, second = (here(path, range, backend=name) for name in ("pyav", "torchcodec"))
        assert torch.equal(first.frames, second.frames)
        assert first.timestamps == second.timestamps and first.info == second.info
        for frame, original in zip(shown(first), pictures, strict=True):
            grey = pixel_format == "gray"
            original = original @ [0.299, 0.587, 0.114] if grey else original
            shift = frame.mean((0, 1)).mean() - original.mean()
            assert abs(shift) < 4  # and they are the pictures that were written, but for colour resolution


def test_interlaced_video_is_the_same_in_both(tmp_path, torchcodec):
    options = {"x264-params": "tff=1:keyint=5"}
    path = write_video(tmp_path / "video.mp4", 8, codec="libx264", pixel_format="yuv420p", options=options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    first, second = (here(path, range, backend=name) for name in ("pyav", "torchcodec"))
    assert torch.equal(first.frames, second.frames)


def test_auto_takes_pyav_where_torchcodec_fails(tmp_path, torchcodec):
    path = write_video(tmp_path / "raw.h264", 8, b_frames=0)
    with pytest.raises(VideoDecodingError):
        here(path, [5], backend="torchcodec")
    assert_shows(here(path, [5], backend="auto"), [5])


def test_an_unknown_back_end(video):
    with pytest.raises(ValueError, match="backend='opencv'; expected 'auto', 'torchcodec' or 'pyav'"):
        decode_video(video, [0], backend="opencv")


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (
            "av,torchcodec",
            {
                "auto": "ImportError: .*`pip install av`, which brings FFmpeg",
                "pyav": "ImportError: .*`pip install av`, which brings FFmpeg",
                "torchcodec": r"ImportError: .*`pip install 'torchcodec>=0.17'`.*No module named 'torchcodec'",
            },
        ),
        ("torchcodec", {"auto": r"decoded \[1, 3, 48, 64\]"}),
        ("av", {"auto": r"decoded \[1, 3, 48, 64\]"}),
    ],
)
def test_without_libraries(video, tmp_path, request, hidden, expected):
    if hidden == "av":
        request.getfixturevalue("torchcodec")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from hf_videolang.video import decode_video\n"
        "for backend in sys.argv[2:]:\n"
        "    for timeout in (None, 60.0):\n"
        "        try:\n"
        "            frames = decode_video(sys.argv[1], [3], backend=backend, timeout=timeout).frames\n"
        "            print('decoded', list(frames.shape))\n"
        "        except ImportError as error:\n"
        "            print('ImportError:', error)\n"
    )
    source = Path(sys.modules["hf_videolang"].__file__).parents[1]
    run = subprocess.run(
        [sys.executable, str(WITHOUT), hidden, str(script), str(video), *expected],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    lines = run.stdout.splitlines()
    for i, pattern in enumerate(expected.values()):
        for line in lines[2 * i : 2 * i + 2]:
            assert re.match(pattern, line), run.stdout + run.stderr
    assert len(lines) == 2 * len(expected), run.stderr
