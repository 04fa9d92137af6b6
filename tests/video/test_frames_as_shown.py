"""Files whose packets or time stamps do not tell the frames: count, order and times are those of the decoder."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from hf_videolang.video import VideoDecodingError, check_video, decode_video, probe_video
from hf_videolang.video.video_stream import VideoStream
from tests.video.making import picture, write_video

REPORTS = Path(__file__).parents[1] / "fixtures" / "video_reports"  # its README says what each file has


def number_in_bars(frame: torch.Tensor) -> int:
    """Eight bars, the highest bit left, white for 1."""
    top = frame[:, : frame.shape[1] // 4].float().mean((0, 1))
    bars = top.unflatten(0, (8, -1))[:, 4:-4].mean(1) > 120
    return sum(int(bar) << (7 - place) for place, bar in enumerate(bars))


@pytest.mark.parametrize(
    ("file", "count", "duration"),
    [("healthy.mp4", 60, 2.4), ("no_ctts.mp4", 60, 2.4), ("altref.webm", 100, 4.0), ("repeats.ogv", 50, 2.4)],
)
def test_frames_carry_their_number(file, count, duration):
    for timeout in (None, 60.0):
        decoded = decode_video(REPORTS / file, timeout=timeout)
        assert [number_in_bars(frame) for frame in decoded.frames] == list(range(count))
    assert (np.diff(decoded.timestamps) > 0).all()
    assert decoded.info == probe_video(REPORTS / file)
    assert decoded.info.duration == duration
    assert decoded.info.frames_per_second == pytest.approx(count / duration)
    for numbers in [[number] for number in range(count)] + [[0, count - 1], [5, 11, 12], [13, 25, 40]]:
        decoded = decode_video(REPORTS / file, numbers, timeout=None)
        assert [number_in_bars(frame) for frame in decoded.frames] == numbers
    decoded = decode_video(REPORTS / file, start=0.4, end=0.8)
    assert [number_in_bars(frame) for frame in decoded.frames] == decoded.indices
    assert all(0.4 <= seconds < 0.8 for seconds in decoded.timestamps)


def test_repeated_pictures_keep_their_times():
    decoded = decode_video(REPORTS / "repeats.ogv")
    assert decoded.timestamps == [(number + number // 5) / 25 for number in range(50)]


@pytest.mark.parametrize("file", ["song_with_cover.mp3", "song_with_cover.mp4"])
def test_cover_art_is_no_video(file):
    with pytest.raises(VideoDecodingError, match="it has no video stream"):
        probe_video(REPORTS / file)


def test_a_video_with_cover_art(tmp_path):
    path = tmp_path / "with_cover.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1, options={})
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "rgb24"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(9, 640, 480), format="rgb24")))
        for number in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(cover.encode())
        container.mux(video.encode())
    decoded = decode_video(path, [4])
    np.testing.assert_array_equal(decoded.frames[0].permute(1, 2, 0), picture(4))


def test_recordings_that_were_joined(tmp_path):
    """The clock of a transport stream starts again with the second recording."""
    pictures = [picture(number) for number in range(50)]
    parts = [write_video(tmp_path / "a.ts", pictures[:30]), write_video(tmp_path / "b.ts", pictures[30:])]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoded = decode_video(joined)
    for frame, expected in zip(decoded.frames.permute(0, 2, 3, 1), pictures, strict=True):
        np.testing.assert_array_equal(frame, expected)
    assert decoded.info.duration == 5 and decoded.info.frames_per_second == 10
    assert decoded.timestamps == pytest.approx([number / 10 for number in range(50)])


def test_a_clock_that_wraps(tmp_path):
    """The clock of a transport stream has 33 bits, and starts again at 0 after 26.5 hours."""
    wrap = 2**33 / 90_000
    path = write_video(tmp_path / "wraps.ts", 40, container_options={"output_ts_offset": str(wrap - 2.5)})
    decoded = decode_video(path)
    for frame, number in zip(decoded.frames.permute(0, 2, 3, 1), range(40), strict=True):
        np.testing.assert_array_equal(frame, picture(number))
    assert np.diff(decoded.timestamps) == pytest.approx(0.1) and decoded.info.duration == pytest.approx(4)


# codec, seconds of the first frame
WITHOUT_TIMES = {"avi": ("mpeg4", 0), "h264.avi": ("libx264", 0), "mpg": ("mpeg2video", 0.54), "h264": ("libx264", 0)}


@pytest.mark.parametrize("extension", WITHOUT_TIMES)
def test_containers_that_do_not_time_every_frame(tmp_path, extension):
    """The stamps of B frames in AVI are guesses; raw streams have none."""
    codec, start = WITHOUT_TIMES[extension]
    options = {"x264-params": "b-adapt=0"} if codec == "libx264" else {}
    path = tmp_path / f"video.{extension}"
    write_video(path, 30, rate=25, codec=codec, pixel_format="yuv420p", key_frame_distance=10, options=options)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    decoded = decode_video(path, [0, 13, 29])
    for frame, number in zip(decoded.frames.permute(0, 2, 3, 1).numpy(), [0, 13, 29], strict=True):
        assert np.abs(frame - expected[number]).mean() < 2  # by another conversion to RGB
        assert np.abs(frame - expected[number - 1]).mean() > 20
    assert decoded.timestamps == pytest.approx([start, start + 13 / 25, start + 29 / 25])
    assert decoded.info.num_frames == 30 and decoded.info.duration == pytest.approx(30 / 25)


def test_damaged_sound_does_not_end_the_pictures(tmp_path):
    """The sound lies behind all pictures, and most of it is missing."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "rgb24"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 32000)).astype(np.float32)
        samples = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        samples.sample_rate = 16000
        for number in range(20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux([*video.encode(), *sound.encode(samples), *sound.encode()])
    with av.open(str(path)) as container:
        end_of_pictures = max(packet.pos + packet.size for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[:end_of_pictures])
    for frame, number in zip(decode_video(path).frames.permute(0, 2, 3, 1), range(20), strict=True):
        np.testing.assert_array_equal(frame, picture(number))


@pytest.mark.parametrize("extension", ["mkv", "webm"])
def test_half_a_download_reads_and_is_reported(tmp_path, extension):
    """Matroska needs no index, so half of a file is a shorter video, but for the duration in its header."""
    whole = tmp_path / f"whole.{extension}"
    codec = {"mkv": "libx264", "webm": "libvpx"}[extension]
    write_video(whole, 100, codec=codec, pixel_format="yuv420p")
    half = tmp_path / f"half.{extension}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert not check_video(whole).is_truncated
    info = check_video(half)
    assert info.is_truncated and info.declared_duration == 10 and 3 < info.duration < 7
    assert decode_video(half).info == info


def test_the_rate_is_exact(tmp_path):
    """Matroska rounds time stamps to milliseconds; with uneven distances its stated rate is wrong."""
    seen = []
    ntsc = write_video(tmp_path / "ntsc.mkv", 30, rate=Fraction(30000, 1001))
    decode_video(ntsc, lambda cut: seen.append(cut) or [0])
    uneven = write_video(tmp_path / "uneven.mkv", 4, times=[0.0, 0.1, 0.2, 1.0])
    decode_video(uneven, lambda cut: seen.append(cut) or [0])
    assert seen[0].frame_rate == Fraction(30000, 1001) and seen[0].header_duration is None
    assert seen[1].frame_rate == 4 / (seen[1].end * Fraction(1, 1000)) < 4


def test_damage_counts_up_to_the_next_key_frame():
    """At the start of a recording that begins inside a group, damage is normal."""
    kinds = ["damaged", "damaged", "sound", "damaged", "sound", "key"]
    stream = VideoStream(str(REPORTS / "altref.webm"), "altref.webm")
    for is_leading, expected in ((True, "sound sound sound damaged damaged sound"), (False, "damaged " * 5 + "sound")):
        stream._frames = iter(SimpleNamespace(is_corrupt=k == "damaged", key_frame=k == "key") for k in kinds)
        stream._next, stream._is_leading, found = 0, is_leading, []
        for number in range(len(kinds)):
            try:
                stream._counted_frame(number)
                found.append("sound")
            except VideoDecodingError:
                found.append("damaged")
        assert found == expected.split()
