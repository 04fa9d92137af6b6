"""Models that load, and models that are refused."""

import huggingface_hub
import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPProcessor

from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForMultipleChoice
from tests.common.tiny import clipbert
from tests.common.tiny.clip_vip import tiny_model, tiny_processor, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def test_an_absent_model_is_named_without_the_hub_too(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"^no-such-folder is neither a folder nor a model that the Hub.*connection"):
        load_model_and_processor("no-such-folder")


def test_a_model_of_images_is_refused_before_its_weights_are_read(tmp_path):
    CLIPConfig().save_pretrained(tmp_path)
    CLIPProcessor(CLIPImageProcessor(), tiny_tokenizer()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a CLIPProcessor, not a processor of videos and texts"):
        load_model_and_processor(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_frames": 0}, "num_frames is 0"), ({"max_length": 78}, "max_length is 78; expected 2 to 77")],
)
def test_impossible_frames_and_tokens_are_refused(folder, change, message):
    with pytest.raises(ValueError, match=message):
        load_model_and_processor(folder, **change)


def test_a_number_of_frames_takes_the_place_of_a_rate(folder):
    _, processor = load_model_and_processor(folder)
    processor.video_processor.fps = 2.0
    processor.save_pretrained(folder)
    asked = load_model_and_processor(folder, num_frames=3)[1]
    frames = [one.input_protocol()["frames"] for one in (load_model_and_processor(folder)[1], asked)]
    assert frames == ["2.0 a second", 3]


@pytest.fixture(scope="module")
def choosing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing")
    clipbert.tiny_model(ClipBertForMultipleChoice).save_pretrained(folder)
    clipbert.tiny_processor().save_pretrained(folder)
    return folder


def test_a_model_keeps_the_head_that_it_was_saved_with(choosing):
    model, _ = load_model_and_processor(choosing)
    assert type(model) is ClipBertForMultipleChoice
    saved = clipbert.tiny_model(ClipBertForMultipleChoice).state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_settings_of_clips(choosing):
    _, processor = load_model_and_processor(choosing, num_frames=3, num_clips=4, size=64)
    frames = np.zeros((12, 40, 60, 3), np.uint8)
    pixels = processor(videos=[frames], video_metadata={"fps": 10})["pixel_values_videos"]
    assert pixels.shape == (1, 4, 3, 3, 64, 64)
    assert processor.video_processor.fps == 2  # the length of a clip is 3 / 2 seconds


def test_a_setting_that_the_processor_lacks_is_refused(folder):
    with pytest.raises(ValueError, match="num_clips is 4, but the model's processor has no such setting"):
        load_model_and_processor(folder, num_clips=4)


def test_a_tokenizer_with_more_words_than_the_model_is_refused(choosing, tmp_path):
    processor = clipbert.tiny_processor()
    processor.tokenizer.add_tokens([f"word{number}" for number in range(40)])
    clipbert.tiny_model(ClipBertForMultipleChoice).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"a tokenizer of 11\d words and a model of 97"):
        load_model_and_processor(tmp_path)
