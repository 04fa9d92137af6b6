"""ClipBERT's processor: which frames of which clips, upright pictures, questions with their options."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from hf_videolang.models.clipbert import video_processing_clipbert
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVisualQuestionAnswering
from hf_videolang.models.clipbert.processing_clipbert import ClipBertProcessor
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor
from hf_videolang.models.shared import any_video
from hf_videolang.video.decoded_video import VideoDecodingError
from tests.common.tiny.clipbert import IMAGE_SIZE, tiny_model, tiny_processor
from tests.parity.cases import REPOSITORY
from tests.parity.clipbert.preprocessing import frame_numbers

VIDEOS = REPOSITORY / "tests" / "fixtures" / "clipbert" / "frame_sampling"
VIDEO = VIDEOS / "v30fps_90.mp4"  # each frame shows its number


def numbers(processor: ClipBertVideoProcessor, video, seed=None) -> list[int]:
    return frame_numbers(processor.read_clip(video, seed))


def test_all_clips_of_a_file_come_from_one_opening(monkeypatch):
    opened, read = [], any_video.read_frames
    monkeypatch.setattr(any_video, "read_frames", lambda *arguments: opened.append(1) or read(*arguments))
    processor = ClipBertVideoProcessor(num_clips=4, size={"longest_edge": IMAGE_SIZE})
    batch = processor([VIDEO, VIDEO], return_tensors="pt", return_metadata=True)
    assert batch["pixel_values_videos"].shape == (2, 4, 2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert len(opened) == 2
    # windows of 30 frames start at 60 * i / 4
    assert batch["video_metadata"][0].frames_indices == [0, 29, 15, 44, 30, 59, 45, 74]
    assert numbers(processor, VIDEO) == [0, 29, 15, 44, 30, 59, 45, 74]


def test_a_cut_is_a_video_of_its_own():
    processor = ClipBertVideoProcessor(num_clips=2, fps=4)
    assert numbers(processor, {"path": str(VIDEO), "start": 1.0, "end": 2.0}) == [30, 44, 38, 52]
    assert numbers(processor, {"path": str(VIDEO), "start": 1.0, "end": 1.2}) == [30, 35, 30, 35]


def test_a_single_clip_lies_where_the_task_has_it():
    assert numbers(ClipBertVideoProcessor(), VIDEO) == [0, 29]
    assert numbers(ClipBertVideoProcessor(single_clip="middle"), VIDEO) == [20, 49]
    assert numbers(ClipBertVideoProcessor(sampling="whole", num_frames=3), VIDEO) == [0, 44, 89]


def test_training_draws_by_the_seed_alone():
    processor = ClipBertVideoProcessor(num_clips=3)
    first = numbers(processor, VIDEO, seed=5)
    assert numbers(processor, VIDEO, seed=5) == first != numbers(processor, VIDEO, seed=6)
    assert len(set(first[::2])) == 3 and np.diff(np.reshape(first, (3, 2))).tolist() == [[29]] * 3
    both = processor([VIDEO, VIDEO], seed=5, return_tensors="pt", return_metadata=True)["video_metadata"]
    assert both[0].frames_indices == first != both[1].frames_indices
    dense = ClipBertVideoProcessor(num_clips=3, sampling="uniform")
    assert numbers(dense, VIDEO, seed=5) == numbers(dense, VIDEO)


def test_frames_without_a_rate_need_one(tmp_path):
    pictures = np.zeros((20, 16, 16, 3), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None] * 10
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"frame_{number:03d}.png")
    processor = ClipBertVideoProcessor(num_clips=2, size={"longest_edge": 64}, do_normalize=False)
    for video in (pictures, str(tmp_path)):
        with pytest.raises(ValueError, match='pass video_metadata={"fps": …}'):
            processor([video], return_tensors="pt")
        batch = processor([video], video_metadata={"fps": 5}, return_tensors="pt", return_metadata=True)
        # windows of 5 frames start at 0 and 7.5
        assert batch["video_metadata"][0].frames_indices == [0, 4, 7, 11]
        assert batch["pixel_values_videos"][0, :, :, 0, 0, 0].tolist() == [[0, 40], [70, 110]]
    kept = processor([pictures], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
    assert kept.shape == (1, 2, 10, 3, 64, 64)
    floats = processor([pictures / np.float32(255)], do_sample_frames=False, return_tensors="pt")
    torch.testing.assert_close(floats["pixel_values_videos"], kept)
    one = processor([VIDEOS / "v10fps_12.mp4"], fps=100, num_frames=3, num_clips=1, return_metadata=True)
    assert one["video_metadata"][0].frames_indices == [0, 0, 0]


def test_pictures_are_upright_clips_of_one_frame(tmp_path):
    picture = Image.fromarray(np.repeat(np.array([[[255], [0], [0], [0]]], np.uint8), 3, 2).repeat(2, 0))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn it clockwise
    picture.save(tmp_path / "picture.png", exif=exif)
    processor = tiny_processor(do_normalize=False, num_clips=4)
    for image in (str(tmp_path / "picture.png"), Image.open(tmp_path / "picture.png")):
        pixels = processor(images=image)["pixel_values_videos"]
        assert pixels.shape == (1, 1, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
        assert pixels[0, 0, 0, 0, 0, 0] == 255 and pixels[0, 0, 0, 0, -1, 0] == 0  # 2 wide, 4 high
        assert pixels[0, 0, 0, :, :, IMAGE_SIZE // 2 :].sum() == 0  # padding


def test_choices_are_texts_of_question_and_option():
    processor = tiny_processor()
    batch = processor(text=["what is a dog?", "who plays?"], choices=[["a man", "the dog", "spin"], ["dog", "man"]])
    assert batch["input_ids"].shape == (2, 3, 12)
    texts = [
        "what is a dog? a man",
        "what is a dog? the dog",
        "what is a dog? spin",
        "who plays? dog",
        "who plays? man",
    ]
    plain = processor(text=texts)
    assert torch.equal(batch["input_ids"].flatten(0, 1)[:5], plain["input_ids"])
    assert torch.equal(batch["attention_mask"].flatten(0, 1)[:5], plain["attention_mask"])
    assert batch["attention_mask"][1, 2].sum() == 0
    single = processor(text="who plays?", choices=["dog", "man"])
    assert torch.equal(single["input_ids"], batch["input_ids"][1:, :2])
    alone = processor(choices=["a dog", "a man"])
    assert torch.equal(alone["input_ids"][0], processor(text=["a dog", "a man"])["input_ids"])
    with pytest.raises(ValueError, match="2 questions and choices for 1 of them"):
        processor(text=["who?", "what?"], choices=["dog", "man"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clips": 0}, "num_clips is 0"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"fps": 0}, "fps is 0"),
        ({"num_clips": 2, "sampling": "whole"}, "sampling='whole' makes one clip"),
        ({"num_clips": 4, "do_sample_frames": False}, "90 frames cannot be cut into num_clips=4 clips"),
        ({"video_metadata": [{"fps": 3}, {"fps": 3}]}, "2 entries of video_metadata for 1 videos"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClipBertVideoProcessor(size={"longest_edge": 32})([VIDEO], return_tensors="pt", **options)


def test_extreme_pictures_are_refused_in_training_and_warned_of_at_test(tmp_path, monkeypatch):
    for number in range(3):
        Image.new("RGB", (101, 20)).save(tmp_path / f"frame_{number:03d}.png")
    processor = ClipBertVideoProcessor(sampling="whole", size={"longest_edge": 64})
    warnings = []
    monkeypatch.setattr(video_processing_clipbert.logger, "warning", warnings.append)
    with pytest.raises(VideoDecodingError, match="101x20 pixels are beyond an aspect ratio of 5:1"):
        processor.read_clip(str(tmp_path), seed=1)
    assert processor.read_clip(str(tmp_path)).shape == (2, 3, 20, 101)
    processor(str(tmp_path), return_tensors="pt")
    assert len(warnings) == 1 and "101x20" in warnings[0]


def test_saved_options_come_back_and_the_protocol_states_them(tmp_path):
    options = {"num_clips": 16, "num_frames": 1, "fps": 1, "sampling": "uniform", "single_clip": "middle"}
    processor = tiny_processor(**options)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is ClipBertProcessor
    assert {name: getattr(loaded.video_processor, name) for name in options} == options
    assert loaded.input_protocol() == {
        "clips": "16",
        "frames": "1 a clip",
        "sampling": "uniform, 1 s a clip",
        "pixels": f"longest edge {IMAGE_SIZE} without antialiasing, padded to a square",
        "text": "at most 12 tokens",
    }
    with pytest.raises(ValueError, match="max_length is 25; expected 2 to 24"):
        loaded(text="a dog", max_length=25)


REMOTE = """
import sys, torch
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor
folder, video = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForVisualQuestionAnswering.from_pretrained(folder, trust_remote_code=True)
assert "hf_videolang" not in sys.modules
inputs = processor(videos=video, text="what is the man doing?", return_tensors="pt")
torch.save(model(**inputs).logits, folder + "/logits.pt")
"""


def test_a_saved_folder_answers_without_the_package(tmp_path):
    processor = tiny_processor(num_clips=3)
    model = tiny_model(ClipBertForVisualQuestionAnswering, num_labels=5)
    processor.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "script.py").write_text(REMOTE)
    without = REPOSITORY / "tests" / "common" / "without.py"
    subprocess.run(
        [
            sys.executable,
            "-I",
            str(without),
            "hf_videolang,datasets",
            str(tmp_path / "script.py"),
            str(tmp_path),
            VIDEO,
        ],
        check=True,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
    )
    expected = model(**processor(videos=VIDEO, text="what is the man doing?")).logits
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected)
