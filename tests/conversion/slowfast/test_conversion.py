"""Both files of SlowFast become a folder that loads; what does not fit is refused."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForVideoClassification

from hf_videolang.conversion.families import convert
from hf_videolang.conversion.untrusted import ConversionError, read_checkpoint
from hf_videolang.models.slowfast.configuration_slowfast import SlowFastConfig
from hf_videolang.models.slowfast.modeling_slowfast import SlowFastForVideoClassification
from tests.conversion.slowfast.original_files import (
    caffe2_values,
    pytorchvideo_values,
    write_caffe2,
    write_pytorchvideo,
)


def test_both_files_give_the_same_model(tmp_path):
    reports = [
        convert(write_pytorchvideo(tmp_path / "a.pyth"), tmp_path / "a"),
        convert(write_caffe2(tmp_path / "b.pkl"), tmp_path / "b"),
    ]
    models = [AutoModelForVideoClassification.from_pretrained(tmp_path / name) for name in "ab"]
    assert all(type(model) is SlowFastForVideoClassification for model in models)
    assert list(models[0].config.stem_channels) == [4, 1] and models[0].config.num_labels == 5
    for (name, one), other in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    values = pytorchvideo_values()
    assert reports[0]["renamed"].keys() == values.keys() and len(values) == 662
    assert torch.equal(models[0].classifier.bias, values["blocks.6.proj.bias"])
    assert not reports[0]["dropped"] and not reports[0]["created"]
    assert reports[1]["source"]["container"] == "numpy pickle"
    assert reports[1]["dropped"].keys() == {"conv1_w_momentum", "lr", "model_iter"}
    assert reports[1]["created"] and all(name.endswith("num_batches_tracked") for name in reports[1]["created"])


def test_names_of_the_caffe2_file():
    """One of each kind, as hero A5 writes them."""
    assert {
        *("conv1_w", "t_conv1_w", "res_conv1_bn_s", "t_res_conv1_bn_riv", "res2_0_branch1_w", "res2_0_branch1_bn_b"),
        *("t_res5_2_branch2c_w", "t_res5_2_branch2c_bn_rm", "res4_5_branch2b_w", "t_pool1_subsample_w"),
        *("t_pool1_subsample_bn_s", "t_res2_2_branch2c_bn_subsample_w", "t_res3_3_branch2c_bn_subsample_bn_s"),
        *("t_res4_5_branch2c_bn_subsample_w", "pred_w", "pred_b"),
    } <= caffe2_values().keys()


def test_400_classes_have_their_names(tmp_path):
    state = pytorchvideo_values()
    state |= {"blocks.6.proj.weight": torch.zeros(400, 160), "blocks.6.proj.bias": torch.zeros(400)}
    convert(write_pytorchvideo(tmp_path / "a.pyth", state), tmp_path / "a")
    config = SlowFastConfig.from_pretrained(tmp_path / "a")
    # What PyTorchVideo's kinetics_classnames.json says of these.
    assert [config.label2id[name] for name in ("abseiling", "archery", "sharpening knives", "zumba")] == [
        0,
        5,
        290,
        399,
    ]
    assert config.id2label[5] == "archery"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("t_res3_3_branch2c_bn_subsample_w"), "missing: t_res3_3_branch2c_bn_subsample_w"),
        (lambda state: state.update(res6_0_branch1_w=np.ones(1, np.float32)), "unexpected: res6_0_branch1_w"),
        (lambda state: state.update(pred_b=np.ones(3, np.float32)), r"unfit: pred_b has shape \[3\], expected \[5\]"),
        (lambda state: state["pred_b"].fill(np.nan), "unfit: pred_b holds NaN"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, message):
    change(blobs := caffe2_values())
    with pytest.raises(ConversionError, match=message):
        convert(write_caffe2(tmp_path / "a.pkl", blobs), tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


class Payload:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_code_in_the_pickle_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "evil.pkl", tmp_path / "run"
    for content in (Payload(marker), {"conv1_w": Payload(marker)}, {"conv1_w": np.array([Payload(marker)], object)}):
        write_caffe2(path, content)
        with pytest.raises(ConversionError, match=rf"evil\.pkl is refused .*{os.mkdir.__module__}\.mkdir"):
            read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, ">f4"])
def test_arrays_arrive(tmp_path, kind):
    arrays = {"a": np.arange(6).reshape(2, 3).astype(kind), "b": np.asfortranarray(np.arange(6).reshape(2, 3))}
    arrays |= {"empty": np.empty((0, 4), np.float32), "one": np.array(2.5)}
    found = read_checkpoint(write_caffe2(tmp_path / "two.pkl", arrays)).content["blobs"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.array(["text", 1], object)}, "type 'O8' is no array of numbers"),
        ({"a": np.array(["text"])}, "type 'U4' is no array of numbers"),
        (b"cut", "truncated, damaged or not a checkpoint"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "a.pkl"
    if isinstance(content, bytes):
        write_caffe2(path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        write_caffe2(path, content)
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(path)


def test_an_array_must_have_the_bytes_of_its_shape(tmp_path):
    path = write_caffe2(tmp_path / "a.pkl", {"a": np.arange(6, dtype=np.float32)})
    path.write_bytes(
        path.read_bytes().replace(pickle.BININT1 + b"\x06" + pickle.TUPLE1, pickle.BININT1 + b"\xff" + pickle.TUPLE1)
    )
    with pytest.raises(ConversionError, match="cannot reshape array of size 6"):
        read_checkpoint(path)


def test_arrays_are_not_larger_than_their_file_and_shared_dictionaries_are_read_once(tmp_path):
    shared: dict = {}
    for _ in range(40):  # 2**40 names
        shared = {"a": shared, "b": shared}
    shared["self"] = shared
    path = write_caffe2(tmp_path / "a.pkl", {"one": np.ones(3, np.float32), "shared": shared})
    assert read_checkpoint(path).content["blobs"]["one"].tolist() == [1, 1, 1]
    content = bytes(range(250)) * 4
    arrays = [_SameBytes(content) for _ in range(50)]
    with pytest.raises(ConversionError, match="its arrays state 50,000 bytes, more than the file has"):
        read_checkpoint(write_caffe2(tmp_path / "b.pkl", dict(enumerate(arrays))))


class _SameBytes:
    """Pickled as an array of these bytes, which the file then holds once."""

    def __init__(self, content: bytes):
        self.content = content

    def __reduce__(self):
        make, arguments, state = np.frombuffer(self.content, np.uint8).__reduce__()
        return make, arguments, (*state[:-1], self.content)
