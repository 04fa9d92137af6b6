"""Reading of strangers' files: the tensors are right, nothing is executed, and what cannot be read is named."""

import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_videolang.conversion.untrusted import ConversionError, read_checkpoint
from tests.conversion.random_checkpoints import openai_keys, random_tensors, write_torchscript

TENSORS = {"a.weight": torch.randn(5, 3), "a.scale": torch.randn(4).half(), "n": torch.tensor(7)}


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def repacked(archive: Path, path: Path, compression: int = zipfile.ZIP_STORED, **replaced: bytes) -> Path:
    """A copy of a zip archive with the entries that end in `replaced`'s names (`_` for `/`) exchanged."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            key = name.partition("/")[2].replace("/", "_").replace(".", "_")
            new.writestr(name, replaced.get(key, old.read(name)))
    return path


@pytest.mark.parametrize("container", ["torch.save", "torch.save (legacy)", "safetensors", "TorchScript"])
def test_tensors_of_every_container(tmp_path, container):
    path = tmp_path / "file"  # the content decides, not the name
    match container:
        case "torch.save":
            torch.save(TENSORS, path)
        case "torch.save (legacy)":
            torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
        case "safetensors":
            save_file(TENSORS, path)
        case "TorchScript":
            write_torchscript(TENSORS, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.container == container
    assert checkpoint.content.keys() == TENSORS.keys()
    for name, tensor in checkpoint.content.items():
        torch.testing.assert_close(tensor, TENSORS[name], atol=0, rtol=0)


class Network(nn.Module):
    """What OpenAI's archive is made of, and attributes that are no tensors."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 4, bias=False)
        self.attention = nn.MultiheadAttention(8, 2)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU())
        self.register_buffer("resolution", torch.tensor(8))
        self.layers, self.sizes = 3, [1, 2]

    def forward(self, pixels):
        tokens = self.conv1(pixels).flatten(2).permute(2, 0, 1)
        return self.mlp(self.attention(tokens, tokens, tokens, need_weights=False)[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_torchscript_equals_its_state_dict(tmp_path):
    """torch.jit.load, which executes the archive, is the reference."""
    path = tmp_path / "traced.pt"
    torch.jit.trace(Network().eval(), torch.randn(1, 3, 8, 8)).save(str(path))
    expected = torch.jit.load(path).state_dict()
    found = read_checkpoint(path).content
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle 2", "pickle 4", "TorchScript"])
def test_code_is_refused_by_name_and_not_executed(tmp_path, container):
    marker, path = tmp_path / "executed", tmp_path / "evil.pt"
    content = {**TENSORS, "payload": Payload(marker)}
    if container == "TorchScript":
        write_torchscript(TENSORS, tmp_path / "good.pt")
        repacked(tmp_path / "good.pt", path, data_pkl=pickle.dumps(content["payload"], protocol=2))
    elif container.startswith("pickle"):
        path.write_bytes(pickle.dumps({"payload": content["payload"]}, protocol=int(container[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(ConversionError, match=rf"evil.pt is refused.*{os.mkdir.__module__}\.mkdir"):
        read_checkpoint(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(content["payload"]))  # noqa: S301 - the control: it would have worked
    assert marker.exists()


def test_names_hidden_in_the_memo_are_refused(tmp_path):
    """Strings put on the stack long before STACK_GLOBAL takes them."""
    program = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94000h\x00h\x01\x93."
    (tmp_path / "evil.pt").write_bytes(program.replace(b"000", b""))
    with pytest.raises(ConversionError, match=r"os\.system"):
        read_checkpoint(tmp_path / "evil.pt")


def test_a_whole_module_is_refused_and_told_how_to_save(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ConversionError, match=r"torch\.nn\.modules\.linear\.Linear.*torch\.save\(model\.state_dict"):
        read_checkpoint(tmp_path / "module.pt")


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors", "TorchScript"])
def test_truncated_files_are_named(tmp_path, container, kept):
    tensors, path = random_tensors(openai_keys()), tmp_path / "cut"
    match container:
        case "safetensors":
            save_file(tensors, path)
        case "TorchScript":
            write_torchscript(tensors, path)
        case _:
            torch.save(tensors, path, _use_new_zipfile_serialization=container == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ConversionError, match=r"cut \([\d,]+ bytes\) is truncated or damaged"):
        read_checkpoint(path)


def test_arrays_of_a_script_archive_must_be_whole_and_uncompressed(tmp_path):
    write_torchscript(TENSORS, tmp_path / "good.pt")
    short = repacked(tmp_path / "good.pt", tmp_path / "short.pt", data_0=b"12")
    with pytest.raises(ConversionError, match=r"short\.pt: good/data/0 has 2 bytes, expected \d+ values of torch"):
        read_checkpoint(short)
    packed = repacked(tmp_path / "good.pt", tmp_path / "packed.pt", zipfile.ZIP_DEFLATED)
    with pytest.raises(ConversionError, match="packed again"):
        read_checkpoint(packed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"epoch 3, loss 1.2\n" * 9, "starts with b'epoch 3"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (pickle.dumps([1, 2, 3]), r"not of torch\.save"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, reason):
    (tmp_path / "thing.pt").write_bytes(content)
    with pytest.raises(ConversionError, match=f"thing.pt.*{reason}"):
        read_checkpoint(tmp_path / "thing.pt")


def test_folders_zip_files_and_missing_files(tmp_path):
    with pytest.raises(ConversionError, match=r"nowhere\.pt: there is no such file"):
        read_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(ConversionError, match=r"is a folder without model\.safetensors"):
        read_checkpoint(tmp_path)
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
        archive.writestr("model_best.pt", b"...")
    with pytest.raises(ConversionError, match=r"found model_best\.pt.*unpack it"):
        read_checkpoint(tmp_path / "release.zip")
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path).path == tmp_path / "model.safetensors"


def test_no_warning_about_read_only_memory(tmp_path):
    write_torchscript(TENSORS, tmp_path / "file.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_checkpoint(tmp_path / "file.pt")
