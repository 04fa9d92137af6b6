"""Which frames and pixels S3D sees: literal cases, and FFmpeg's own filters on real clips."""

import re
from fractions import Fraction
from zlib import adler32

import av
import numpy as np
import PIL.Image
import pytest
import torch
from av import VideoFrame
from transformers import AutoProcessor, AutoVideoProcessor

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.models.s3d.processing_s3d import S3DProcessor
from hf_videolang.models.s3d.tokenization_s3d import s3d_tokenizer
from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.decode import with_stream
from hf_videolang.video.sampling import constant_rate_indices
from tests.common.tiny.s3d import SIDE, WORDS, tiny_processor
from tests.parity.cases import SHARED
from tests.video.making import write_video as write_lossless
from tests.video.through_ffmpeg import through_ffmpeg

CLIPS = SHARED / "data" / "video" / "clips"
needs_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"the shared clips are not here ({CLIPS})")


@pytest.mark.parametrize(
    ("ticks", "end", "time_base", "indices"),
    [
        ([0, 1, 2], 3, Fraction(1, 10), [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        ([0, 1, 2, 3], 4, Fraction(1, 60), [0, 2]),  # half of a tick is rounded up: 0, 1, 1, 2
        ([7, 8, 9], 10, Fraction(1, 30), [0, 1, 2]),  # the first frame's time is the first tick
        ([0, 40, 1000], 1033, Fraction(1, 1000), [0] + [1] * 29 + [2]),
        ([5], 5, Fraction(1, 30), [0]),
        ([0, 1001, 2002], 3003, Fraction(1, 24000), [0, 1, 1, 2]),  # 0, 1.25 → 1, 2.5 → 3, and the end 3.75 → 4
    ],
)
def test_frame_on_show_at_each_tick(ticks, end, time_base, indices):
    assert constant_rate_indices(np.array(ticks), end, time_base, 30).tolist() == indices


@needs_clips
def test_frames_are_those_of_ffmpegs_fps_filter():
    """On every clip but one whose time stamps run backwards."""
    clips = [path for path in sorted(CLIPS.iterdir()) if path.name != "video33.avi"]
    assert len(clips) == 36
    for path in clips:
        outgoing, incoming = through_ffmpeg(path, lambda frame: adler32(frame.planes[0]), ("fps", "30"))
        whole = with_stream(lambda stream: stream.whole, path, timeout=None)
        indices = constant_rate_indices(whole.ticks, whole.end, whole.time_base, 30)
        assert [incoming[index] for index in indices] == outgoing, path.name


@needs_clips
@pytest.mark.parametrize("name", ["video1.mkv", "video21.mp4", "video28.mp4", "video31.mov"])
def test_pixels_are_those_of_ffmpegs_filters(name):
    """Of a wide clip, a wider one, and two that grow."""
    with av.open(str(CLIPS / name)) as container:
        stream = container.streams.best("video")
        width, height = stream.width, stream.height
    width, height = (224, int(height * 224 / width)) if height >= width else (int(width * 224 / height), 224)
    crop = f"224:224:{int((width - 224) / 2)}:{int((height - 224) / 2)}"
    filters = ("fps", "30"), ("scale", f"{width}:{height}"), ("crop", crop), ("format", "rgb24")
    pictures, _ = through_ffmpeg(CLIPS / name, VideoFrame.to_ndarray, *filters)
    expected = torch.tensor(np.stack(pictures)).movedim(-1, 1)
    batch = S3DVideoProcessor()(CLIPS / name, return_tensors="pt")
    found = batch["pixel_values_videos"][0]
    assert found.dtype == torch.uint8 and len(found) == 30 * -(-len(expected) // 30)
    assert torch.equal(found[: len(expected)], expected) and not found[len(expected) :].any()
    assert batch["video_attention_mask"].tolist() == [[1] * (len(found) // 30)]


@needs_clips
def test_pixels_of_frames_in_memory_are_close_to_ffmpegs():
    path = CLIPS / "video1.mkv"
    decoded = with_stream(lambda stream: np.stack([*stream.pictures(range(30))]), path)
    processor = S3DVideoProcessor(max_clips=1)
    from_file, from_memory = (
        processor(video, return_tensors="pt")["pixel_values_videos"] for video in (path, decoded)
    )
    assert (from_file.int() - from_memory.int()).abs().float().mean() < 1.5


@pytest.fixture
def video(tmp_path):
    """At 10 frames a second; frame i is of grey value 10 i."""
    frames = [np.full((40, 60, 3), 10 * i, np.uint8) for i in range(20)]
    return write_video(tmp_path / "grey.mp4", frames, frames_per_second=10)


def greys(batch, row=0):
    """Which frame of `video` each frame of the batch is."""
    return (batch["pixel_values_videos"][row].float().mean(dim=(1, 2, 3)) / 10).round().int().tolist()


def test_a_slow_video_repeats_frames_and_black_ones_complete_the_last_second(video):
    processor = tiny_processor(frames_per_clip=8).video_processor
    batch = processor(str(video), return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (1, 64, 3, SIDE, SIDE)
    assert greys(batch) == [i // 3 for i in range(60)] + [0] * 4
    assert batch["video_attention_mask"].tolist() == [[1] * 8]


@pytest.mark.parametrize(
    ("cut", "clips"),
    [((0.3, 0.9), (0, 1)), ((1.0, 1.5), (1, 2)), ((1.0, None), (1, 2)), ((None, 1.0), (0, 1)), ((0.5, 1.2), (0, 2))],
)
def test_a_cut_reads_whole_seconds_of_the_file(video, cut, clips):
    processor = tiny_processor(frames_per_clip=30).video_processor
    whole = processor(str(video), return_tensors="pt")["pixel_values_videos"][0]
    batch = processor({"path": str(video), "start": cut[0], "end": cut[1]}, return_tensors="pt")
    first, stop = clips
    assert torch.equal(batch["pixel_values_videos"][0], whole[30 * first : 30 * stop])


def test_a_cut_with_nothing_in_it_is_told(video):
    with pytest.raises(VideoDecodingError, match=r"grey\.mp4: it is 2\.000 s long, and nothing of it lies between 5"):
        tiny_processor().video_processor({"path": str(video), "start": 5.0, "end": 9.0})


def test_a_batch_pads_with_masked_clips_and_reads_the_first_ones_alone(video):
    processor = tiny_processor(frames_per_clip=30, max_clips=1).video_processor
    assert processor(str(video), return_tensors="pt")["video_attention_mask"].tolist() == [[1]]
    frames = torch.full((7, 3, SIDE, SIDE), 9, dtype=torch.uint8)
    batch = processor([frames, str(video)], max_clips=2, return_tensors="pt")
    assert batch["video_attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch["pixel_values_videos"][0].sum() == frames.sum()


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_shrunk_upright(tmp_path, degrees):
    processor = S3DVideoProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    stored, turned = (
        processor(write_lossless(tmp_path / f"{rotation}.mp4", 4, rotation=rotation), return_tensors="pt")
        for rotation in (0, degrees)
    )
    upright = stored["pixel_values_videos"].rot90(degrees // 90, (-2, -1))  # counter-clockwise
    assert torch.equal(turned["pixel_values_videos"], upright)


def test_a_folder_of_pictures_counts_as_30_a_second(tmp_path):
    for number in range(12):
        PIL.Image.fromarray(np.full((40, 60, 3), 10 * number, np.uint8)).save(tmp_path / f"v_{number:03d}.png")
    batch = tiny_processor(frames_per_clip=12).video_processor(str(tmp_path), return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (1, 12, 3, SIDE, SIDE) and greys(batch) == list(range(12))


def test_frames_in_memory_count_as_30_a_second():
    processor = tiny_processor(frames_per_clip=10).video_processor
    frames = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, SIDE, SIDE) * 10
    assert greys(processor(frames, return_tensors="pt")) == list(range(10))
    batch = processor(frames, video_metadata={"fps": 15, "total_num_frames": 10}, return_tensors="pt")
    assert greys(batch) == [i // 2 for i in range(20)]


def test_floats_become_the_same_bytes():
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 50, 44), np.uint8)
    processor = tiny_processor().video_processor
    whole, parts = (processor(each, return_tensors="pt")["pixel_values_videos"] for each in (frames, frames / 255))
    assert torch.equal(whole, parts)
    with pytest.raises(ValueError, match=r"values from 0 to 255; expected .*0\.\.1 for floats"):
        processor(frames.astype(np.float32))


def test_the_crop_takes_the_centre_and_may_be_smaller():
    frame = torch.zeros(1, 3, 20, 33, dtype=torch.uint8)
    frame[..., 8:12, 12:21] = 200
    options = {"size": {"shortest_edge": 20}, "crop_size": {"height": 4, "width": 8}}
    pixels = S3DVideoProcessor(**options, frames_per_clip=2)(frame, return_tensors="pt")["pixel_values_videos"]
    assert (pixels[0, 0] == 200).all() and pixels.shape == (1, 2, 3, 4, 8)
    assert (
        S3DVideoProcessor(**options)(frame, do_resize=False, return_tensors="pt")["pixel_values_videos"].shape[-1]
        == 33
    )


def test_a_clip_that_was_read_is_processed_to_the_same_pixels(video):
    processor = tiny_processor(size={"shortest_edge": 36}).video_processor
    clip = processor.read_clip(str(video))
    batch = processor(clip, do_sample_frames=False, return_tensors="pt")
    assert torch.equal(batch["pixel_values_videos"], processor(str(video), return_tensors="pt")["pixel_values_videos"])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.write_text("a chef slices onions"), VideoDecodingError),
        (lambda path: path.write_bytes(b""), VideoDecodingError),
        (lambda path: None, VideoDecodingError),
    ],
)
def test_what_is_no_video_is_told(tmp_path, make, error):
    make(path := tmp_path / "lesson.mp4")
    with pytest.raises(error, match="lesson.mp4"):
        tiny_processor()(videos=str(path))


def test_a_tenth_of_a_second_is_a_clip_and_no_frames_are_an_error(tmp_path):
    short = write_video(tmp_path / "short.mp4", [np.zeros((40, 60, 3), np.uint8)] * 3, frames_per_second=30)
    assert S3DVideoProcessor()(short, return_tensors="pt")["video_attention_mask"].tolist() == [[1]]
    with pytest.raises(ValueError, match="the video has 0 frames"):
        S3DVideoProcessor()(np.zeros((0, 40, 60, 3), np.uint8))


def test_processor_travels_with_the_model(tmp_path):
    processor = tiny_processor(max_clips=2, fps=12)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is S3DProcessor and loaded.to_dict() == processor.to_dict()
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)) is S3DVideoProcessor
    texts = ["Open the door!", ""]
    assert torch.equal(loaded(text=texts)["input_ids"], processor(text=texts)["input_ids"])
    assert loaded(text=texts)["input_ids"].tolist() == [[1, 6, 2, 0, 0], [0] * 5]
    assert loaded.input_protocol() == {
        "frames": "12 a second, the first 2 clips",
        "sampling": "by time stamps, 4 frames a clip",
        "pixels": f"shortest edge {SIDE} antialiased, {SIDE}x{SIDE} centre",
        "text": "at most 5 words",
    }


def by_the_specification(text: str) -> list[int]:
    ids = {word: index for index, word in enumerate(WORDS, start=1)}
    known = [ids[word] for word in re.findall(r"[\w']+", text.lower()) if word in ids][:5]
    return known + [0] * (5 - len(known))


def test_words_are_those_of_the_specification(tmp_path):
    tokenizer = s3d_tokenizer(WORDS, 5)
    pieces = [*WORDS, "zzz", "ä", "Éa", "日本", "a_b", "½", "i̇", "İ", "'", "-", "[PAD]", "\n", "²", "  ", ","]
    generator = np.random.default_rng(0)
    for _ in range(500):
        chosen = generator.choice(pieces, generator.integers(0, 15))
        text = "".join(piece + ["", " "][generator.integers(2)] for piece in chosen)
        found = tokenizer(text, padding="max_length", truncation=True)
        assert found == {"input_ids": by_the_specification(text)}, text
    assert tokenizer.decode(tokenizer("Open the door").input_ids) == "open the door"


@pytest.mark.parametrize("number", [1, 2, 50])
@pytest.mark.parametrize(("start", "end"), [(None, None), (0.4, 2.2)])
def test_a_few_clips_at_a_time_are_the_whole_video(tmp_path, number, start, end):
    video = {"path": str(write_lossless(tmp_path / "long.mp4", 37)), "start": start, "end": end}
    processor = tiny_processor(fps=4).video_processor
    expected = processor([video], return_tensors="pt")["pixel_values_videos"][0]
    parts = list(processor.read_clips(video, number))
    assert [first for first, _ in parts] == list(range(0, len(expected) // 4, number))
    assert torch.equal(torch.cat([pixels for _, pixels in parts]), expected)
    assert all(len(pixels) <= 4 * number for _, pixels in parts)
