"""Every key of a source is accounted for and every tensor of a model is filled, whatever its dtype."""

from pathlib import Path

import pytest
import torch

from hf_videolang.conversion.tensor_map import map_tensors, state_dict
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError

TARGETS = {
    "linear.weight": torch.empty(3, 2, device="meta"),
    "norm.num_batches_tracked": torch.empty((), dtype=torch.int64, device="meta"),
    "mask": torch.empty(2, dtype=torch.bool, device="meta"),
}
SOURCE = {
    "net.linear.weight": torch.arange(6).reshape(2, 3).half(),
    "net.norm.num_batches_tracked": torch.tensor(7),
    "net.mask": torch.tensor([True, False]),
}


def mapped(source, **created):
    def origin(name):
        return f"net.{name}", (lambda tensor: tensor.mT) if name == "linear.weight" else lambda tensor: tensor

    return map_tensors(source, TARGETS, origin, lambda key: "a plain bool" if key == "vocab_padded" else None, created)


def test_every_dtype_is_mapped_without_a_copy():
    found = mapped({**SOURCE, "vocab_padded": True})
    assert {name: tensor.dtype for name, tensor in found.tensors.items()} == {
        "linear.weight": torch.float16,
        "norm.num_batches_tracked": torch.int64,
        "mask": torch.bool,
    }
    assert found.dtypes["linear.weight"] == torch.float32
    assert torch.equal(found.tensors["linear.weight"], SOURCE["net.linear.weight"].T)
    assert found.tensors["linear.weight"].data_ptr() == SOURCE["net.linear.weight"].data_ptr()
    assert found.renamed == {f"net.{name}": [name] for name in TARGETS}
    assert found.dropped == {"vocab_padded": "a plain bool"}


def test_created_tensors_need_no_source():
    source = {key: value for key, value in SOURCE.items() if key != "net.mask"}
    found = mapped(source, mask=(torch.tensor([True, True]), "all true"))
    assert found.created == {"mask": "all true"} and found.tensors["mask"].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net.mask": None}, r"missing: net\.mask$"),
        ({"net.extra": torch.ones(1)}, r"unexpected: net\.extra$"),
        ({"net.mask": None, "net.masks": torch.ones(1)}, r"missing: net\.mask \(renamed to net\.masks\?\)"),
        ({"epoch": 3}, r"unexpected: epoch$"),
        ({"net.mask": True}, r"unfit: net\.mask is a bool, expected a tensor"),
        ({"net.mask": torch.ones(2)}, r"unfit: net\.mask holds torch\.float32, expected torch\.bool"),
        (
            {"net.norm.num_batches_tracked": torch.tensor(7, dtype=torch.int32)},
            r"holds torch\.int32, expected torch\.int64",
        ),
        ({"net.linear.weight": torch.ones(2, 3, dtype=torch.int64)}, r"torch\.int64, expected floating-point numbers"),
        ({"net.mask": torch.ones(3, dtype=torch.bool)}, r"net\.mask has shape \[3\], expected \[2\]$"),
        ({"net.linear.weight": torch.ones(3, 2)}, r"shape \[3, 2\], expected \[3, 2\] for linear\.weight"),
        ({"net.linear.weight": torch.ones(3)}, r"shape \[3\], from which linear\.weight \[3, 2\] cannot be taken"),
        ({"net.linear.weight": torch.eye(3)[:2] / 0}, r"net\.linear\.weight holds NaN or infinity"),
        ({"net.linear.weight": -torch.ones(2, 3) * torch.inf}, r"net\.linear\.weight holds NaN or infinity"),
        ({"net.linear.weight": torch.full((2, 3), 1e300, dtype=torch.float64)}, r"infinity \(as torch\.float32\)"),
    ],
)
def test_what_does_not_fit_is_listed(change, message):
    source = {key: value for key, value in {**SOURCE, **change}.items() if value is not None}
    with pytest.raises(ConversionError, match=rf"(?m){message}"):
        mapped(source)


def test_all_faults_are_listed_at_once():
    with pytest.raises(ConversionError) as error:
        mapped({"net.mask": torch.ones(1), "a": 1, "b": 2})
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:-1]] == [
        *("missing", "missing", "unexpected", "unexpected", "unfit")
    ]


@pytest.mark.parametrize(
    ("content", "names", "prefix"),
    [
        ({"a.b": 1, "c": 2}, ["a.b", "c"], ""),
        ({"module.a": 1, "module.c": 2}, ["a", "c"], "module."),
        ({"_orig_mod.a": 1, "_orig_mod.c": 2}, ["a", "c"], "_orig_mod."),
        ({"module._orig_mod.a": 1, "module._orig_mod.c": 2}, ["a", "c"], "module._orig_mod."),
        ({"module.a": 1, "c": 2}, ["module.a", "c"], ""),
        ({"model_state_dict": {"module.a": 1}, "global_step": 7}, ["a", "global_step"], "module."),
        ({}, [], ""),
        ({0: 1}, [], ""),
        ([1, 2], [], ""),
    ],
)
def test_names_of_a_checkpoint(content, names, prefix):
    found, found_prefix = state_dict(Checkpoint(Path("x"), "torch.save", content))
    assert list(found) == names and found_prefix == prefix


def test_a_training_state_is_dropped_with_reasons_and_its_unknown_entries_are_not():
    content = {"model_state_dict": SOURCE, "global_step": 7, "optim_state_dict": {}, "amp_state_dict": {}}
    values, _ = state_dict(Checkpoint(Path("x"), "torch.save", content))
    assert mapped(values).dropped.keys() == {"global_step", "optim_state_dict", "amp_state_dict"}
    with pytest.raises(ConversionError, match="unexpected: scheduler"):
        mapped({**values, "scheduler": 3})
