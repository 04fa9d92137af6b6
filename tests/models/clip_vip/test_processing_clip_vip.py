"""Texts, videos and pictures in one call; length and padding of the text travel with the checkpoint."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Image, Video
from transformers import AutoProcessor, AutoVideoProcessor

from hf_videolang.data.moving_shapes import write_video
from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from hf_videolang.models.shared import any_text
from hf_videolang.video import VideoDecodingError
from tests.common.tiny.clip_vip import IMAGE_SIZE, NUM_FRAMES, tiny_processor, tiny_tokenizer

BEGIN, END = 512, 513
REFUSED = "http://127.0.0.1:9/a.png"  # the port "discard", where nobody listens


def frames(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)


def literal_ids(word):
    """The tiny vocabulary: the symbols in order, then the same at the end of a word."""
    symbols = tiny_tokenizer().convert_tokens_to_ids
    return [BEGIN, *(symbols(letter) for letter in word[:-1]), symbols(word[-1] + "</w>"), END]


def test_text_is_padded_with_the_end_token():
    batch = tiny_processor(max_length=8)(text=["Cat", "a"])
    assert batch["input_ids"].tolist() == [
        [*literal_ids("cat"), END, END, END],
        [*literal_ids("a"), END, END, END, END, END],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 3 + [0] * 5]
    assert set(batch) == {"input_ids", "attention_mask"}


def test_the_padding_token_of_the_tokenizer_does_not_matter():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "a"
    processor = CLIPViPProcessor(CLIPViPVideoProcessor(), tokenizer, max_length=6)
    assert processor(text="b")["input_ids"].tolist() == [[*literal_ids("b"), END, END, END]]


def test_max_length_fits_the_text_tower():
    for wrong in (1, 0, 78):
        with pytest.raises(ValueError, match=f"max_length is {wrong}; expected 2 to 77"):
            CLIPViPProcessor(CLIPViPVideoProcessor(), tiny_tokenizer(), max_length=wrong)
    longer = CLIPViPProcessor(CLIPViPVideoProcessor(), tiny_tokenizer(248), max_length=200)
    assert longer(text="a")["input_ids"].shape == (1, 200)


def test_long_text_keeps_its_end_token():
    input_ids = tiny_processor(max_length=5)(text="abcdefgh")["input_ids"]
    assert input_ids.tolist() == [[BEGIN, *literal_ids("abcx")[1:4], END]]


@pytest.mark.parametrize("options", [{"truncation": False}, {"text_kwargs": {"truncation": False}}])
def test_long_text_without_truncation(options):
    assert tiny_processor(max_length=20)(text="x" * 75, **options)["input_ids"].shape == (1, 77)


@pytest.mark.parametrize("options", [{"max_length": 9}, {"text_kwargs": {"max_length": 9}}])
def test_length_of_one_call(options):
    assert tiny_processor()(text="abc", **options)["input_ids"].shape == (1, 9)


def test_longest_padding():
    batch = tiny_processor()(text=["abc", "a"], padding="longest")
    assert batch["input_ids"].shape == (2, 5)


def test_what_the_tokenizer_was_saved_with_does_not_override():
    processor = tiny_processor(max_length=11)
    processor.tokenizer.init_kwargs.update(max_length=9, padding=False, truncation=False)
    assert processor(text="x" * 30)["input_ids"].shape == (1, 11)


@pytest.mark.parametrize("options", [{"num_frames": 7}, {"videos_kwargs": {"num_frames": 7}}])
def test_video_options_of_one_call(options):
    pixels = tiny_processor()(videos=frames(), **options)["pixel_values_videos"]
    assert pixels.shape == (1, 7, 3, IMAGE_SIZE, IMAGE_SIZE)


def test_text_and_videos_together(tmp_path):
    pytest.importorskip("av")
    path = write_video(tmp_path / "clip.mp4", list(frames()))
    processor = tiny_processor()
    batch = processor(videos=[path, frames()], text=["a", "b", "c"], return_tensors="pt")
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 77)
    assert batch["pixel_values_videos"].shape == (2, NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert set(batch) == {"input_ids", "attention_mask", "pixel_values_videos"}
    expected = processor.video_processor([path, frames()])["pixel_values_videos"]
    assert torch.equal(batch["pixel_values_videos"], expected)


def test_mixed_lengths_bring_a_mask():
    batch = tiny_processor()(videos=[frames(3), frames(2)], do_sample_frames=False)
    assert batch["video_attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_images_are_videos_of_one_frame(tmp_path):
    picture = PIL.Image.fromarray(frames(1)[0])
    picture.save(tmp_path / "picture.png")
    processor = tiny_processor()
    expected = processor(videos=frames(1), do_sample_frames=False)["pixel_values_videos"]
    assert expected.shape == (1, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    array = frames(1)[0]
    chosen = [picture, tmp_path / "picture.png", str(tmp_path / "picture.png"), array, array[None]]
    for images in [*chosen, [picture], array.transpose(2, 0, 1)]:
        assert torch.equal(processor(images=images)["pixel_values_videos"], expected)
    batch = processor(images=[picture, array], text="a", do_sample_frames=True, videos_kwargs={"antialias": True})
    assert batch["pixel_values_videos"].shape == (2, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert not torch.equal(batch["pixel_values_videos"][:1], expected)
    assert batch["input_ids"].shape == (1, 77)


def test_saved_and_loaded_by_the_auto_classes(tmp_path):
    video_processor = CLIPViPVideoProcessor(size={"height": 24, "width": 24}, num_frames=3, antialias=True)
    processor = CLIPViPProcessor(video_processor, tiny_tokenizer(), max_length=50, padding="longest")
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert (saved["max_length"], saved["padding"]) == (50, "longest")
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is CLIPViPProcessor  # AutoProcessor falls back to a bare tokenizer in silence
    assert type(loaded.video_processor) is CLIPViPVideoProcessor
    inputs = {"videos": frames(9), "text": ["abc", "x" * 90]}
    for name, value in processor(**inputs).items():
        assert torch.equal(loaded(**inputs)[name], value), name
    assert loaded(**inputs)["input_ids"].shape == (2, 50)
    alone = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(alone) is CLIPViPVideoProcessor
    assert alone.to_dict() == loaded.video_processor.to_dict()
    shorter = AutoProcessor.from_pretrained(tmp_path, max_length=20)
    assert shorter(text="x" * 90)["input_ids"].shape == (1, 20)


def test_model_input_names():
    names = {"pixel_values_videos", "video_attention_mask", "input_ids", "attention_mask"}
    assert set(tiny_processor().model_input_names) == names


def test_as_sentence_transformers_calls_it():
    common = {"images_kwargs": {}, "audio_kwargs": {}, "common_kwargs": {"return_tensors": "pt"}}
    text = {"padding": True, "truncation": "longest_first"}
    processor = tiny_processor(max_length=20)
    batch = processor(text=["ab", "x" * 90], text_kwargs=text, videos_kwargs={}, **common)
    assert batch["input_ids"].shape == (2, 20)
    metadata = {"video_metadata": [{"fps": 4, "total_num_frames": 6}, {"fps": 4, "total_num_frames": 9}]}
    pictures = [[PIL.Image.fromarray(frame) for frame in frames(6)]]  # a list of frames arrives wrapped
    batch = processor(videos=[pictures, frames(9)], text_kwargs=text, videos_kwargs=metadata, **common)
    assert batch["pixel_values_videos"].shape == (2, NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)


def test_columns_of_datasets_are_lists(tmp_path):
    path = str(write_video(tmp_path / "clip.mp4", frames(6)))
    data = Dataset.from_dict({"video": [path, path], "caption": ["ab", "c"], "image": list(frames(2))})
    data = data.cast_column("image", Image())
    processor = tiny_processor()
    got = processor(videos=data["video"], text=data["caption"])
    for name, value in processor(videos=[path, path], text=["ab", "c"]).items():
        assert torch.equal(got[name], value), name
    pictures = processor(images=data["image"])["pixel_values_videos"]
    assert torch.equal(pictures, processor(images=list(data["image"]))["pixel_values_videos"])
    decoded = Dataset.from_dict({"video": [path]}).cast_column("video", Video(decode=False))
    assert processor(videos=decoded["video"])["pixel_values_videos"].shape[:2] == (1, NUM_FRAMES)


@pytest.mark.parametrize("text", ["Clip.WEBM", __file__, ["a dog", "talks/nowhere.mp4"]])
def test_the_name_of_a_video_as_text_warns_once(text, caplog, monkeypatch):
    monkeypatch.setattr(any_text, "_WARNED", [])
    processor = tiny_processor()
    for _ in range(2):
        processor(text=["a dog digs", "mp4"])
        assert len(caplog.messages) == 0
    for _ in range(2):
        processor(text=text)
    (message,) = caplog.messages
    assert message.startswith(f"{text[1] if isinstance(text, list) else text!r} is encoded as a sentence")
    assert 'videos=[path], or to sentence-transformers as {"video": path}' in message


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, ValueError, "at least one input"),
        ({"text": 3}, ValueError, "text"),
        ({"text": "a", "max_length": 78}, ValueError, "max_length is 78; expected 2 to 77, the positions"),
        ({"videos": []}, ValueError, "empty list"),
        ({"videos": 3}, TypeError, "int is no video"),
        ({"images": []}, ValueError, "empty list"),
        ({"images": 3}, TypeError, "int is no picture"),
        ({"images": "gone/a.png"}, ValueError, "Got gone/a.png"),
        ({"images": __file__}, PIL.UnidentifiedImageError, "test_processing_clip_vip.py"),
        ({"videos": REFUSED}, VideoDecodingError, REFUSED),
        ({"images": np.zeros((2, 2, 8, 8, 3))}, TypeError, r"shape \(2, 2, 8, 8, 3\) is no picture"),
        ({"images": frames(1)[0], "videos": frames()}, ValueError, "in two calls"),
    ],
)
def test_bad_inputs_are_named(inputs, error, message):
    with pytest.raises(error, match=message):
        tiny_processor()(**inputs)
