"""Folders of pictures as videos: exact frames, their order and size, and faults of a folder."""

import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from hf_videolang.video import VideoDecodingError, check_video, decode_video, frame_folder, probe_video
from tests.parity.cases import SHARED
from tests.video.making import picture, write_frames, write_video


@pytest.fixture
def folder(tmp_path):
    return write_frames(tmp_path / "v_1", 6)


def shown(decoded) -> list[np.ndarray]:
    return [frame.permute(1, 2, 0).numpy() for frame in decoded.frames]


def test_selected_frames(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # not needed
    decoded = decode_video(folder, [4, 0, 5, 4])
    assert decoded.indices == [4, 0, 5, 4] and decoded.timestamps is None
    assert decoded.frames.dtype == torch.uint8 and decoded.frames.shape == (4, 3, 48, 64)
    for frame, number in zip(shown(decoded), [4, 0, 5, 4], strict=True):
        np.testing.assert_array_equal(frame, picture(number))
    info = probe_video(str(folder))
    assert info == decoded.info == check_video(folder)
    assert (info.num_frames, info.width, info.height, info.codec) == (6, 64, 48, "png")
    assert info.frames_per_second is None and info.duration is None
    assert "[4, 3, 48, 64]" in repr(decoded) and "times=none" in repr(decoded)
    assert decode_video(folder, lambda cut: range(0, cut.num_frames, 2)).indices == [0, 2, 4]
    with pytest.raises(IndexError, match="frame 6 was selected; .*v_1 has frames 0 to 5"):
        decode_video(folder, [6])


def test_jpeg_as_pillow_reads_it(tmp_path):
    folder = write_frames(tmp_path / "v", 3, ".JPG")
    for frame, file in zip(shown(decode_video(folder)), sorted(folder.iterdir()), strict=True):
        np.testing.assert_array_equal(frame, np.asarray(Image.open(file)))
    assert probe_video(folder).codec == "jpeg"


def test_pictures_are_sorted_by_their_number(tmp_path):
    """As text, 1000 comes before 999. Other files in the folder do not matter."""
    folder = tmp_path / "v"
    folder.mkdir()
    pictures = write_frames(tmp_path / "some", 7)
    for number in range(1003):
        os.symlink(pictures / f"some_{number % 7:03d}.png", folder / f"v_{number:03d}.png")
    for name in ("cover.jpg", "._v_000.png", "notes.txt", "v_01.jpg"):
        (folder / name).write_text("no frame")
    wanted = [999, 1000, 1001, 100, 1002]
    for frame, number in zip(shown(decode_video(folder, wanted)), wanted, strict=True):
        np.testing.assert_array_equal(frame, picture(number % 7))
    assert probe_video(folder).num_frames == 1003


def test_a_name_may_hold_any_character(tmp_path):
    folder = write_frames(tmp_path / "a b\nü", 3)
    assert {file.name[:6] for file in folder.iterdir()} == {"a b\nü_"}
    assert probe_video(folder).num_frames == 3


def test_only_wanted_pictures_are_read(folder):
    for number in (1, 2, 4, 5):
        (folder / f"v_1_{number:03d}.png").write_bytes(b"no picture")
    np.testing.assert_array_equal(shown(decode_video(folder, [3]))[0], picture(3))
    with pytest.raises(VideoDecodingError, match=r"v_1: frame 4 \(v_1_004.png\) cannot be read as a picture"):
        decode_video(folder, [3, 4])


# How a camera stores an upright picture, by EXIF's orientation.
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(2):
        stored = np.ascontiguousarray(STORED[orientation](picture(number)))
        Image.fromarray(stored).save(tmp_path / f"{number:03d}.png", exif=exif)
    decoded = decode_video(tmp_path)
    assert (decoded.info.width, decoded.info.height) == (64, 48)
    for number, frame in enumerate(shown(decoded)):
        np.testing.assert_array_equal(frame, picture(number))


def test_grey_alpha_palette_and_16_bits_become_rgb(tmp_path):
    grey = picture(0)[..., 0]
    alpha = np.dstack([picture(1), np.full((48, 64), 9, np.uint8)])
    Image.fromarray(grey).save(tmp_path / "v_000.png")
    Image.fromarray(alpha).save(tmp_path / "v_001.png")
    Image.fromarray(picture(2)).quantize(256).save(tmp_path / "v_002.png")
    deep = grey.astype(np.uint16) * 256 + 99
    Image.fromarray(deep).save(tmp_path / "v_003.png")
    first, second, third, fourth = shown(decode_video(tmp_path))
    np.testing.assert_array_equal(first, np.dstack([grey] * 3))
    np.testing.assert_array_equal(second, picture(1))
    np.testing.assert_array_equal(third, picture(2))  # 48 blocks have no more colours than the palette
    np.testing.assert_array_equal(fourth, first)  # of 16 bits the upper eight


def spoil(folder, kind):
    file = folder / "v_1_003.png"
    if kind == "gap":
        file.unlink()
    elif kind == "from one":
        (folder / "v_1_000.png").unlink()
    elif kind == "two digits":
        file.rename(folder / "v_1_03.png")
    elif kind == "twice":
        Image.fromarray(picture(3)).save(folder / "v_1_003.jpg")
    elif kind == "two videos":
        file.rename(folder / "v_2_003.png")
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:200])
    elif kind == "text":
        file.write_text("no picture")
    elif kind == "gif":
        Image.fromarray(picture(3)).save(folder / "x.gif")
        (folder / "x.gif").rename(file)
    elif kind == "size":
        Image.fromarray(picture(3, 80, 48)).save(file)
    elif kind == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif kind == "empty":
        for file in folder.iterdir():
            file.unlink()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gap", r"frame 3 is absent: its 5 pictures go up to v_1_005.png; count from 000$"),
        ("from one", r"frame 0 is absent: .*; count from 000, in FFmpeg with -start_number 0"),
        ("two digits", r"frame 3 is absent"),
        ("twice", r"frame 3 is there twice: v_1_003.jpg and v_1_003.png"),
        ("two videos", r"belong to several videos: v_1_000.png and v_2_003.png"),
        ("truncated", r"frame 3 \(v_1_003.png\) cannot be read as a picture"),
        ("text", r"frame 3 \(v_1_003.png\) cannot be read as a picture"),
        ("gif", r"frame 3 \(v_1_003.png\) cannot be read as a picture"),
        ("size", r"frame 3 \(v_1_003.png\) has 80x48 pixels, the first one 64x48"),
        ("pipe", r"frame 3 \(v_1_003.png\) cannot be read as a picture: it is not a regular file"),
        ("empty", r"not a regular file, nor a folder of pictures named <name>_000.jpg"),
    ],
)
def test_faults_of_a_folder(folder, kind, reason):
    spoil(folder, kind)
    with pytest.raises(VideoDecodingError, match=f"cannot decode {re.escape(str(folder))}: .*{reason}") as raised:
        decode_video(folder)
    assert raised.value.path == str(folder) and raised.value.timestamp is None


def test_a_picture_with_too_many_pixels(folder, monkeypatch):
    monkeypatch.setattr(frame_folder, "MAX_PIXELS", 3000)
    with pytest.raises(VideoDecodingError, match="it has 64x48 pixels; HF_VIDEOLANG_MAX_PIXELS allows 3,000"):
        decode_video(folder)


def test_seconds_need_a_frame_rate(folder):
    expected = "v_1: start=.* and end=.* are seconds, but the frame rate of its pictures is unknown; give"
    for segment in ({"start": 1.0}, {"end": 2.0}, {"start": 0.0, "end": 2.0}):
        with pytest.raises(VideoDecodingError, match=expected):
            decode_video(folder, **segment)
    processor = CLIPViPVideoProcessor()
    with pytest.raises(VideoDecodingError, match=expected):
        processor({"path": str(folder), "start": 1.0}, num_frames=2)
    with pytest.raises(ValueError, match="frame rate of the video.* unknown"):
        processor(str(folder), fps=2, num_frames=None)


@pytest.mark.parametrize("options", [{}, {"seed": 3}])
def test_the_processor_sees_the_same_as_in_a_file(tmp_path, options):
    video = write_video(tmp_path / "v.mp4", 40)
    folder = write_frames(tmp_path / "v", 40)
    processor = CLIPViPVideoProcessor(num_frames=5, size={"height": 32, "width": 32})
    expected = processor([str(video)], return_tensors="pt", **options)
    for source in (str(folder), folder, {"path": str(folder), "bytes": None}):
        found = processor([source], return_tensors="pt", **options)
        assert torch.equal(found.pixel_values_videos, expected.pixel_values_videos)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the real clips are in ../shared/data")
def test_a_real_clip_as_pictures(tmp_path):
    clip = sorted((SHARED / "data" / "video" / "clips").rglob("*.*"))[0]
    frames = shown(decode_video(clip, lambda cut: range(min(cut.num_frames, 12))))
    folder = write_frames(tmp_path / "clip", frames)
    for frame, expected in zip(shown(decode_video(folder)), frames, strict=True):
        np.testing.assert_array_equal(frame, expected)
