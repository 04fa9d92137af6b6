"""S3D's files become a folder that loads (without the package: tests/models); what does not fit is refused."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, AutoTokenizer, AutoVideoProcessor

from hf_videolang.conversion.families import convert
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DModel
from hf_videolang.models.s3d.processing_s3d import S3DProcessor
from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor
from tests.common.tiny.s3d import WORDS
from tests.conversion.s3d.original_file import original_shapes, original_values, write_original
from tests.parity.cases import SHARED


def test_layout_is_that_of_the_released_file():
    file = SHARED / "reference" / "s3d" / "full_size_keys.json"
    if not file.exists():
        pytest.skip(f"the list of the released file's keys is not here ({file})")
    released = json.loads(file.read_text())["s3d_howto100m"]["keys"]
    assert original_shapes(S3DConfig()) == {name: shape for name, shape, _ in released}


def test_every_value_arrives(tmp_path):
    checkpoint, dictionary = write_original(tmp_path)
    report = convert(checkpoint, tmp_path / "s3d", dictionary=dictionary)
    assert not report["dropped"] and not report["created"] and not report["notes"]
    model, processor = AutoModel.from_pretrained(tmp_path / "s3d"), AutoProcessor.from_pretrained(tmp_path / "s3d")
    assert type(model) is S3DModel and type(processor) is S3DProcessor
    values = original_values()
    for name, value in model.state_dict().items():
        original = name.removeprefix("video_model.").replace("text_model.", "text_module.")
        assert report["renamed"][original] == [name] and torch.equal(value, values[original])
    assert model.config.block_channels == [[8, 8, 12, 4, 8, 4]] * 9 and model.config.stem_channels == [8, 16]
    ids = AutoTokenizer.from_pretrained(tmp_path / "s3d")("cut the pan").input_ids
    assert ids == [WORDS.index(word) + 1 for word in ("cut", "the", "pan")]
    card = (tmp_path / "s3d" / "README.md").read_text()
    assert "license: apache-2.0" in card and "--dictionary s3d_dict.npy" in card


def test_without_a_dictionary_it_reads_videos_alone(tmp_path):
    report = convert(write_original(tmp_path)[0], tmp_path / "s3d")
    assert "--dictionary" in report["notes"][0]
    assert type(AutoVideoProcessor.from_pretrained(tmp_path / "s3d")) is S3DVideoProcessor


def without_a_block(values):
    return {name: value for name, value in values.items() if not name.startswith("mixed_4d.gating_b1")}


def with_a_stranger(values):
    return values | {"mixed_6a.conv_b0.conv1.weight": torch.ones(1)}


def with_another_shape(values):
    return values | {"fc.bias": torch.ones(3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_block, "missing: mixed_4d.gating_b1.fc.weight"),
        (with_a_stranger, "unexpected: mixed_6a.conv_b0.conv1.weight"),
        (with_another_shape, r"unfit: fc.bias has shape \[3\], expected \[16\]"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, message):
    checkpoint, dictionary = write_original(tmp_path, values=change(original_values()))
    with pytest.raises(ConversionError, match=message):
        convert(checkpoint, tmp_path / "s3d", dictionary=dictionary)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s3d_dict.npy", "s3d_howto100m.pth"]


def test_a_dictionary_that_does_not_fit_is_refused(tmp_path):
    checkpoint, dictionary = write_original(tmp_path)
    for content, message in (
        (np.array([*WORDS, "surplus"]), "has 9 words, .* rows for 8. Give the dictionary that belongs to it"),
        (np.array(WORDS[:6]), "has 6 words, .* rows for 8"),
        (np.array([[1.0]]), r"holds float64 \[1, 1\], expected a list of words"),
        (np.array([{"a": 1}], dtype=object), "cannot be read as an array of words: .*Python objects"),
    ):
        np.save(dictionary, content)
        with pytest.raises(ConversionError, match=f"s3d_dict.npy {message}"):
            convert(checkpoint, tmp_path / "s3d", dictionary=dictionary)
    for content in (b"", b"a sentence\n"):
        dictionary.write_bytes(content)
        with pytest.raises(ConversionError, match="s3d_dict.npy cannot be read as an array of words"):
            convert(checkpoint, tmp_path / "s3d", dictionary=dictionary)
    assert not (tmp_path / "s3d").exists()
