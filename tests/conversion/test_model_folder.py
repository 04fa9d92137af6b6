"""The folder of any family: every dtype and component as it was meant, read back, complete or not there."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPImageProcessor, GenerationConfig, PreTrainedConfig, PreTrainedModel

from hf_videolang.conversion import model_folder
from hf_videolang.conversion.model_folder import Conversion, check_is_free, write_model_folder
from hf_videolang.conversion.tensor_map import map_tensors, model_tensors
from hf_videolang.conversion.untrusted import ConversionError

SOURCE = {
    "linear.weight": torch.randn(2, 3).to(torch.bfloat16),
    "linear.bias": torch.randn(2, dtype=torch.float64),
    "steps": torch.tensor(2**40 + 1),
    "mask": torch.tensor([True, False, True]),
}
SAVED = {"linear.weight": torch.float32, "linear.bias": torch.float32, "steps": torch.int64, "mask": torch.bool}


class ToyConfig(PreTrainedConfig):
    model_type = "toy"


class ToyModelWithHead(PreTrainedModel):
    """Known to no Auto class."""

    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.linear = nn.Linear(3, 2)
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("mask", torch.zeros(3, dtype=torch.bool))
        self.post_init()


@pytest.fixture(autouse=True)
def card(monkeypatch):
    """Sections of the card that would be written; a toy has no template."""
    sections = {}
    monkeypatch.setattr(model_folder, "write_model_card", lambda folder, repo, **given: sections.update(given))
    return sections


def conversion(components=()) -> Conversion:
    config = ToyConfig()
    targets = model_tensors(ToyModelWithHead, config)
    tensors = map_tensors(SOURCE, targets, lambda name: (name, lambda tensor: tensor), lambda key: None)
    return Conversion(
        ToyModelWithHead, config, tensors, components, "toy release", {"seed": 3}, ["a note"], {"training": "None."}
    )


def write(folder, made=None, push_to_hub=None):
    facts = {"file": "toy.pt", "sha256": "abc"}
    return write_model_folder(made or conversion(), folder, facts, "hf-videolang convert toy.pt", push_to_hub)


def test_every_dtype_and_component_is_written(tmp_path, card):
    made = conversion([CLIPImageProcessor(size=96), GenerationConfig(num_beams=4, max_length=7)])
    report = write(tmp_path / "deep" / "toy", made)

    folder = tmp_path / "deep" / "toy"
    saved = load_file(folder / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in saved.items()} == SAVED
    for name, tensor in saved.items():
        assert torch.equal(tensor, SOURCE[name].to(SAVED[name])), name
    model = ToyModelWithHead.from_pretrained(folder)
    assert model.steps == 2**40 + 1 and model.config.architectures == ["ToyModelWithHead"]
    assert GenerationConfig.from_pretrained(folder).num_beams == 4
    assert CLIPImageProcessor.from_pretrained(folder).size["shortest_edge"] == 96
    assert json.loads((folder / "conversion_report.json").read_text()) == report
    assert report["source"] == {"file": "toy.pt", "sha256": "abc", "flavour": "toy release"}
    assert report["counts"] == {"source_keys": 4, "model_tensors": 4, "parameters": 12, "dropped": 0, "created": 0}
    assert (report["seed"], report["notes"]) == (3, ["a note"])
    assert card["training"] == "None."
    assert (
        "`toy.pt` (sha256 `abc`, toy release), 12 parameters, with `hf-videolang convert toy.pt`" in card["provenance"]
    )
    assert not made.tensor_map.tensors  # released, so that the original can be unmapped
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_a_flipped_bit_is_found_and_nothing_is_left(tmp_path, monkeypatch):
    save = model_folder.write_safetensors

    def save_and_flip(tensors, path):
        digests = save(tensors, path)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        return digests

    monkeypatch.setattr(model_folder, "write_safetensors", save_and_flip)
    with pytest.raises(RuntimeError, match="does not reload as written"):
        write(tmp_path / "toy")
    assert not any(tmp_path.iterdir())


def test_a_missing_tensor_is_found(tmp_path):
    made = conversion()
    del made.tensor_map.tensors["linear.bias"]
    with pytest.raises(RuntimeError, match=r"does not reload as written: .*linear\.bias"):
        write(tmp_path / "toy", made)
    assert not any(tmp_path.iterdir())


def test_a_component_that_changes_is_found(tmp_path):
    class Forgetful(GenerationConfig):
        def save_pretrained(self, folder, **options):
            GenerationConfig(max_length=7).save_pretrained(folder)

    with pytest.raises(RuntimeError, match=r"Forgetful in .* reloads with other values of \['num_beams'\]"):
        write(tmp_path / "toy", conversion([Forgetful(num_beams=4, max_length=7)]))
    assert not any(tmp_path.iterdir())


def test_only_a_free_folder_is_taken(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    for taken in (tmp_path / "used", tmp_path / "used" / "notes.txt"):
        with pytest.raises(ConversionError, match="is not an empty folder"):
            check_is_free(taken)
    (tmp_path / "empty").mkdir()
    check_is_free(tmp_path / "empty")
    write(tmp_path / "empty")
    assert ToyModelWithHead.from_pretrained(tmp_path / "empty")


def test_a_failed_push_leaves_the_folder(tmp_path, monkeypatch):
    def refuse(folder, repo_id):
        raise PermissionError("401 Unauthorized")

    monkeypatch.setattr(model_folder, "push_folder", refuse)
    with pytest.raises(ConversionError, match=r"is complete, but was not pushed: 401.*\n.*hf upload lab/toy"):
        write(tmp_path / "toy", push_to_hub="lab/toy")
    assert ToyModelWithHead.from_pretrained(tmp_path / "toy")
