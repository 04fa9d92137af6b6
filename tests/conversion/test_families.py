"""Every family keeps the contract; a file of none is refused with what it holds."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import HFValidationError

from hf_videolang.conversion.families import convert, families
from hf_videolang.conversion.untrusted import ConversionError


@pytest.mark.parametrize("family", families(), ids=lambda family: family.__name__)
def test_every_family_keeps_the_contract(family):
    assert isinstance(family.NAME, str) and isinstance(family.EXPECTED, str)
    assert family.__doc__.strip().startswith(family.NAME)
    harmless = [each[0] if isinstance(each, tuple) else each for each in family.ALSO_HARMLESS]
    assert all(callable(each) for each in (family.recognises, family.convert, *harmless))
    assert set(family.OPTIONS) <= set(inspect.signature(family.convert).parameters)


def test_the_families_are_found():
    assert "CLIP-ViP" in [family.NAME for family in families()]


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ({"unknown.backbone.stem.conv1.weight": torch.ones(2)}, r"1 entries: unknown\.backbone\.stem"),
        (
            {f"layer{index}": torch.ones(1) for index in range(7)},
            "7 entries: layer0, layer1, layer2, layer3, layer4 …",
        ),
        ({"model_state_dict": {}, "scheduler": 3}, "2 entries: model_state_dict, scheduler"),
        ({3: torch.ones(1)}, "1 entries: 3"),
        ({}, "0 entries"),
        ([1, 2], "a list"),
    ],
)
def test_a_file_of_no_family_is_refused_with_what_it_holds(tmp_path, content, holds):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ConversionError, match=rf"other\.pt is of no known family. It holds {holds}") as error:
        convert(tmp_path / "other.pt", tmp_path / "converted")
    assert all(f"\n  {family.NAME}: {family.EXPECTED}" in str(error.value) for family in families())
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"]


def test_a_family_gets_only_options_that_it_knows(tmp_path):
    def convert_toy(checkpoint, *, config=None):
        raise AssertionError("must not be called")

    toy = SimpleNamespace(
        NAME="Toy", EXPECTED="a", ALSO_HARMLESS=(), OPTIONS={}, recognises=lambda checkpoint: True, convert=convert_toy
    )
    torch.save({"a": torch.ones(1)}, tmp_path / "toy.pt")
    with pytest.raises(ConversionError, match="A checkpoint of Toy takes no --seed and no --tokenizer"):
        convert(tmp_path / "toy.pt", tmp_path / "converted", family=toy, seed=3, tokenizer="x")


def test_a_repository_id_is_checked_before_the_file_is_read(tmp_path):
    with pytest.raises(HFValidationError):
        convert(tmp_path / "nowhere.pt", tmp_path / "converted", push_to_hub="lab/clip/vip")
