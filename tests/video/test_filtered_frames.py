"""Frames of rows against FFmpeg's own chain of filters, and what goes wrong."""

import av
import numpy as np
import pytest
from av import VideoFrame

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.decode import Stream
from hf_videolang.video.filtered_frames import filtered_rows, scaled_size
from hf_videolang.video.interval_sampling import middle_frames
from hf_videolang.video.sampling import constant_rate_indices
from tests.parity.cases import SHARED
from tests.video.making import picture, write_frames
from tests.video.making import write_video as write_lossless
from tests.video.through_ffmpeg import through_ffmpeg

CLIPS = SHARED / "data" / "video" / "clips"
SIDE = 64


def middle(stream: Stream) -> np.ndarray:
    return middle_frames(stream.whole, 1.5)


def every_frame(stream: Stream) -> np.ndarray:
    """All frames at 30 a second, each a row."""
    cut, first = stream.whole, int(stream.whole.ticks[0])
    return constant_rate_indices(cut.ticks - first, cut.end - first, cut.time_base, 30)[:, None]


def chain(path, rate: str, crop: bool) -> np.ndarray:
    """`fps` from the first frame on, `scale`, `crop` and the conversion to RGB, with the numbers of hero A1 and A2."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        width, height = stream.width, stream.height
    width, height = (SIDE, int(height * SIDE / width)) if height >= width else (int(width * SIDE / height), SIDE)
    filters = [("setpts", "PTS-STARTPTS"), ("fps", rate), ("scale", f"{width}:{height}")]
    if crop:
        filters.append(("crop", f"{SIDE}:{SIDE}:{int((width - SIDE) / 2)}:{int((height - SIDE) / 2)}"))
    pictures, _ = through_ffmpeg(path, VideoFrame.to_ndarray, *filters, ("format", "rgb24"))
    return np.stack(pictures)


def read(source, choose, crop=None, number=4) -> np.ndarray:
    """All rows, which come `number` at a time."""
    parts = list(filtered_rows(source, choose, SIDE, crop and (crop, crop), number))
    assert [first for first, _ in parts] == list(range(0, sum(len(part) for _, part in parts), number))
    return np.concatenate([part for _, part in parts])


def check_frames(path, rate: str = "2/3") -> None:
    for crop in (None, SIDE):
        np.testing.assert_array_equal(read(path, middle, crop)[:, 0], chain(path, rate, crop is not None))
    np.testing.assert_array_equal(read(path, every_frame, SIDE)[:, 0], chain(path, "30", True))


@pytest.mark.parametrize("rate", [24, 25, 30, 3])
def test_frames_are_those_of_ffmpegs_chain(tmp_path, rate):
    pictures = [picture(number, 96, 64) for number in range(4 * rate)]
    check_frames(write_video(tmp_path / "a.mp4", pictures, frames_per_second=rate))


@pytest.mark.skipif(not CLIPS.is_dir(), reason=f"the shared clips are not here ({CLIPS})")
@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("video1.mkv", "2/3"),
        ("video21.mp4", "2/3"),
        ("video13.mp4", "2/3"),
        ("video22.webm", "2/3"),
        ("video28.mp4", "2"),
    ],
)
def test_frames_of_real_clips(name, rate):
    """The last one is shorter than 1.6 s."""
    check_frames(CLIPS / name, rate)


def test_rows_may_go_back_and_share_frames(tmp_path):
    """As at the end of a video, whose last second is repeated."""
    path = write_lossless(tmp_path / "a.mp4", 20)
    chosen = np.array([[0, 5, 6], [5, 7, 19], [3, 9, 19], [18, 19, 3], [19, 19, 19]])
    found = read(path, lambda stream: chosen, number=2)
    alone = read(path, lambda stream: np.arange(20)[:, None])[:, 0]
    np.testing.assert_array_equal(found, alone[chosen])


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_read_upright(tmp_path, degrees):
    stored, turned = (
        read(write_lossless(tmp_path / f"{turn}.mp4", 2, rate=1, rotation=turn), every_frame) for turn in (0, degrees)
    )
    np.testing.assert_array_equal(turned, np.rot90(stored, degrees // 90, axes=(2, 3)))


def test_what_cannot_be_read_is_named(tmp_path):
    path = write_video(tmp_path / "whole.mp4", [picture(number) for number in range(60)], 10)
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("dear diary")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{path}'\n")
    for name in ("cut.mp4", "text.mp4", "list.mp4", "absent.mp4"):
        with pytest.raises(VideoDecodingError, match=name):
            read(tmp_path / name, middle)


def test_pictures_of_a_folder_have_no_rate_but_numbers(tmp_path):
    folder = write_frames(tmp_path / "pictures", 3)
    assert read(folder, lambda stream: np.array([[0, 2], [1, 2]])).shape == (2, 2, 64, 85, 3)


def test_the_longer_side_is_rounded_down():
    assert scaled_size(1920, 1080, 224) == (398, 224) and scaled_size(1080, 1920, 224) == (224, 398)
    assert scaled_size(50, 50, 224) == (224, 224)
