"""Reading strangers' files: the tensors are right, no code runs, and the error says why a file cannot be read."""

import os
import pickle
import warnings
import zipfile
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_videolang.conversion import untrusted
from hf_videolang.conversion.untrusted import ConversionError, read_checkpoint
from tests.conversion.clip_vip.random_checkpoints import openai_keys, random_tensors, write_torchscript

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
    """The parts of OpenAI's archive, and attributes that are not tensors."""

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
    """The reference is torch.jit.load, which runs the archive."""
    path = tmp_path / "traced.pt"
    torch.jit.trace(Network().eval(), torch.randn(1, 3, 8, 8)).save(str(path))
    expected = torch.jit.load(path).state_dict()
    found = read_checkpoint(path).content
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle 2", "pickle 4", "TorchScript"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_code_is_refused_and_not_run(tmp_path, container):
    marker, path = tmp_path / "run", tmp_path / "evil.pt"
    content = {**TENSORS, "payload": Payload(marker)}
    if container == "TorchScript":
        write_torchscript(TENSORS, tmp_path / "good.pt")
        repacked(tmp_path / "good.pt", path, data_pkl=pickle.dumps(content["payload"], protocol=2))
    elif container.startswith("pickle"):
        path.write_bytes(pickle.dumps({"payload": content["payload"]}, protocol=int(container[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    refusal = rf"is refused.*{os.mkdir.__module__}\.mkdir" if container != "pickle 4" else "Unsupported operand"
    with pytest.raises(ConversionError, match=rf"evil\.pt .*{refusal}"):
        read_checkpoint(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(content["payload"]))  # noqa: S301 - the control: it would have worked
    assert marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_only_the_types_that_are_allowed_are_read(tmp_path, zipped):
    settings, path = Namespace(layers=3), tmp_path / "file.pt"
    torch.save({**TENSORS, "args": settings, "loss": Fraction(1, 3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConversionError, match=r"names argparse\.Namespace" + r", fractions\.Fraction" * zipped):
        read_checkpoint(path)
    with pytest.raises(ConversionError, match=r"names fractions\.Fraction\."):
        read_checkpoint(path, also_harmless=[Namespace])
    content = read_checkpoint(path, also_harmless=[Namespace, (Fraction, "fractions.Fraction")]).content
    assert content["args"] == settings and content["loss"] == Fraction(1, 3)
    with pytest.raises(ConversionError, match="Namespace"):  # what one call allows, the next does not
        read_checkpoint(path)


def test_a_whole_module_is_refused_with_the_way_to_save_it(tmp_path):
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
    with pytest.raises(ConversionError, match=r"cut \([\d,]+ bytes\) is truncated, damaged"):
        read_checkpoint(path)


def test_arrays_of_a_script_archive_must_be_whole_and_uncompressed(tmp_path):
    write_torchscript(TENSORS, tmp_path / "good.pt")
    short = repacked(tmp_path / "good.pt", tmp_path / "short.pt", data_0=b"12")
    packed = repacked(tmp_path / "good.pt", tmp_path / "packed.pt", zipfile.ZIP_DEFLATED)
    for path in (short, packed):
        with pytest.raises(ConversionError, match=r"damaged .*good/data/0 is not \d+ uncompressed values of torch"):
            read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["torch.save", "legacy", "TorchScript"])
def test_tensors_are_not_larger_than_their_file(tmp_path, kind):
    """One number with a stride of zero would be a terabyte."""
    large = torch.zeros(1).expand(1 << 38)
    if kind == "TorchScript":
        module = Nothing()
        module.register_buffer("large", large)
        torch.jit.script(module).save(str(tmp_path / "large.pt"))
    else:
        torch.save(
            {"model": [{"large": large}]}, tmp_path / "large.pt", _use_new_zipfile_serialization=kind != "legacy"
        )
    with pytest.raises(ConversionError, match="its tensors state 1,099,511,627,776 bytes, more than the file has"):
        read_checkpoint(tmp_path / "large.pt")


def test_shared_and_tied_tensors_count_once(tmp_path):
    table = torch.randn(1000, 10)
    torch.save({"embed": table, "head": table, "rows": table[:10]}, tmp_path / "tied.pt")
    assert read_checkpoint(tmp_path / "tied.pt").content["head"].shape == (1000, 10)


class Nothing(nn.Module):
    def forward(self, x):
        return x


class Twice(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.a = self.b = part

    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_module_with_many_names_is_read_once(tmp_path):
    part = Nothing()
    part.register_buffer("scale", torch.ones(3))
    for _ in range(10):  # 2**10 names; 2**40 would take for ever
        part = torch.jit.script(Twice(torch.jit.script(part)))
    part.save(str(tmp_path / "shared.pt"))
    (name,) = read_checkpoint(tmp_path / "shared.pt").content
    assert name == "a." * 10 + "scale"


def test_a_long_pickle_and_names_that_differ_in_case_are_refused(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "good.pt")
    monkeypatch.setattr(untrusted, "PICKLE_LIMIT", 100)
    with pytest.raises(ConversionError, match=r"good/data.pkl has [\d,]+ bytes; at most 100 are read"):
        read_checkpoint(tmp_path / "good.pt")
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:  # torch reads `version` first
        archive.writestr("good/version", bytes(20_000_000))
    with pytest.raises(ConversionError, match="good/version has 20,000,000 bytes"):
        read_checkpoint(tmp_path / "bomb.pt")
    twice = repacked(tmp_path / "good.pt", tmp_path / "twice.pt")
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("good/DATA.pkl", b"")
    with pytest.raises(ConversionError, match="have the same name but for its case"):
        read_checkpoint(twice)


@pytest.mark.parametrize("start", [b"PK", b"\x80"])
def test_a_safetensors_header_may_have_any_length(tmp_path, start):
    """The file begins with that length, in about one file of 32 with the bytes of a zip archive or a pickle."""
    path, padding = tmp_path / "file", 0
    for _ in range(2):  # the first file tells how much longer the header has to be
        save_file({"weight": torch.arange(3)}, path, metadata={"padding": "x" * padding})
        padding = int.from_bytes(start.ljust(2, b"\x01"), "little") - int.from_bytes(path.read_bytes()[:8], "little")
    assert path.read_bytes().startswith(start)
    assert torch.equal(read_checkpoint(path).content["weight"], torch.arange(3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"epoch 3, loss 1.2\n" * 9, "starts with b'epoch 3"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (pickle.dumps([1, 2, 3], protocol=2), "not a checkpoint: its pickle holds a list"),
    ],
)
def test_an_error_says_what_the_file_is_instead(tmp_path, content, reason):
    (tmp_path / "thing.pt").write_bytes(content)
    with pytest.raises(ConversionError, match=f"thing.pt.*{reason}"):
        read_checkpoint(tmp_path / "thing.pt")


def test_folders_zip_files_and_missing_files(tmp_path):
    with pytest.raises(ConversionError, match=r"nowhere\.pt does not exist"):
        read_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(ConversionError, match=r"is a folder without model\.safetensors"):
        read_checkpoint(tmp_path)
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
        archive.writestr("model_best.pt", b"...")
    with pytest.raises(ConversionError, match=r"not a checkpoint: .*model_best\.pt.*unpack it"):
        read_checkpoint(tmp_path / "release.zip")
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path).path == tmp_path / "model.safetensors"


def test_no_warning_about_read_only_memory(tmp_path):
    write_torchscript(TENSORS, tmp_path / "file.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_checkpoint(tmp_path / "file.pt")
