"""What a person who names a wrong model is told."""

import huggingface_hub
import pytest

from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.image_captioner import CaptionerInputs
from tests.inference.tiny_captioners import write_blip


@pytest.mark.parametrize("load", [load_model_and_processor, CaptionerInputs])
def test_an_absent_model_is_named_without_the_hub_too(load, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"^no-such-folder is no folder, and no model of the Hub.*connection"):
        load("no-such-folder")


def test_a_model_of_another_kind_is_told_before_its_weights_are_read(tmp_path):
    (write_blip(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds a BlipProcessor but no processor of videos and texts"):
        load_model_and_processor(tmp_path)
