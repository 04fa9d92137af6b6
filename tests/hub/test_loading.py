"""Models that load, and models that are refused."""

import huggingface_hub
import pytest
from transformers import CLIPConfig, CLIPImageProcessor, CLIPProcessor

from hf_videolang.hub.loading import load_model_and_processor
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
