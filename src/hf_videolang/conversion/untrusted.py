"""
Reading of checkpoint files from strangers: tensors come out, nothing in the file is executed.

A pickle may name any function and have it called. Before one is read, every name it wants is compared with an explicit
list of harmless types; one name beyond it and the file is refused. torch's own restricted reader is the second wall.
TorchScript archives, which it does not read, are read here as what they are: a pickle of attributes beside raw arrays.
Tensors are memory-mapped, not copied, wherever the format allows.
"""

import mmap
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# All that the pickle of a checkpoint may name: the parts into which torch takes a tensor apart, and one container.
HARMLESS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
    *(f"torch.{name}" for name in STORAGE_TYPES),
    *(str(dtype) for dtype in STORAGE_TYPES.values()),
}
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SCRIPT_CLASSES = "__torch__."  # the classes of a TorchScript archive's own modules
LEGACY_START = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)


class ConversionError(ValueError):
    """What a user can mend: a file that cannot or must not be read, or does not fit. Says which, why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """
    What a file held.

    Args:
        path: the file itself (for a folder, the weight file in it).
        container: `"torch.save"`, `"torch.save (legacy)"`, `"TorchScript"` or `"safetensors"`.
        content: name → tensor; from `torch.save` whatever was saved, often a nested dict.
    """

    path: Path
    container: str
    content: Any


def read_checkpoint(path: str | Path) -> Checkpoint:
    """
    Read a checkpoint without executing anything in it.

    Args:
        path: a file of `torch.save` (since torch 1.6 a zip archive, before that bare pickles), a TorchScript archive
            or a safetensors file; or a folder of the Hub that holds `model.safetensors` or `pytorch_model.bin`.

    Returns:
        A [`Checkpoint`] with its tensors on the CPU, memory-mapped but for the legacy format.

    Raises:
        ConversionError: there is no such file, it is truncated, of no known format, or its pickle names something
            that is not in the list of harmless types.
    """
    path = _weight_file(Path(path))
    with path.open("rb") as file:
        start = file.read(16)
    try:
        if start.startswith(b"PK"):
            return _read_archive(path)
        if start.startswith(b"\x80"):
            return _read_legacy(path, start)
        if start[8:9] == b"{":
            return Checkpoint(path, "safetensors", load_file(path))
    except ConversionError:
        raise
    except (zipfile.BadZipFile, SafetensorError, EOFError, RuntimeError) as error:
        raise ConversionError(
            f"{path} ({path.stat().st_size:,} bytes) is truncated or damaged: {_summary(error)}. "
            "Fetch it again and compare its size with the source's."
        ) from error
    except Exception as error:  # a forged file can fail in any way
        raise ConversionError(f"{path} cannot be read: {type(error).__name__}: {_summary(error)}.") from error
    raise ConversionError(
        f"{path} is no checkpoint: {_what_it_is(start)}. Expected a file of torch.save, a TorchScript archive or a "
        "safetensors file."
    )


def _weight_file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in HUB_WEIGHTS if (path / name).is_file()]
        if not found:
            raise ConversionError(
                f"{path} is a folder without {' or '.join(HUB_WEIGHTS)}; give the checkpoint file itself, or a Hub folder "
                "that holds one of them."
            )
        return found[0]
    if not path.is_file():
        raise ConversionError(f"{path}: there is no such file.")
    return path


def _what_it_is(start: bytes) -> str:
    if not start:
        return "it is empty"
    if start.startswith(b"version https://"):
        return "it is a git LFS pointer (`git lfs pull` fetches the file)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, the answer to a download that failed"
    return f"it starts with {start!r}"


def _summary(error: Exception) -> str:
    """The first sentence: without torch's advice on how to load unsafe files after all."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0].split(". ")[0].rstrip(".")


def _wanted_names(pickled: IO[bytes]) -> Iterator[str]:
    """`module.name` of everything that one pickle would look up, read from its instructions; none is carried out."""
    strings: list[str] = []
    memo: dict[int, str] = {}
    for instruction, argument, _ in pickletools.genops(pickled):
        if instruction.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif instruction.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif instruction.name.startswith("EXT"):
            yield f"copyreg extension {argument}"
        elif isinstance(argument, str):
            strings.append(argument)
        elif instruction.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT") and strings:
            memo[len(memo) if argument is None else argument] = strings[-1]
        elif instruction.name in ("BINGET", "LONG_BINGET") and argument in memo:
            strings.append(memo[argument])


def _refuse_code(path: Path, pickled: IO[bytes], script_classes: bool = False) -> None:
    refused = {
        name
        for name in _wanted_names(pickled)
        if name not in HARMLESS and not (script_classes and name.startswith(SCRIPT_CLASSES))
    }
    if refused:
        raise ConversionError(
            f"{path} is refused, nothing in it was executed: its pickle wants {', '.join(sorted(refused))}. Tensors "
            "need no such thing, and it could run code. If you trust the file, load it where it was made and save its "
            "tensors alone: torch.save(model.state_dict(), file)."
        )


def _read_archive(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.split("/")[0] for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise ConversionError(
                f"{path} is a zip archive, but not one of torch: expected one */data.pkl in it, found "
                f"{', '.join(names[:5]) or 'nothing'}. If the checkpoint was zipped for transport, unpack it."
            )
        is_script = f"{roots[0]}/constants.pkl" in names
        with archive.open(f"{roots[0]}/data.pkl") as pickled:
            _refuse_code(path, pickled, script_classes=is_script)
        if is_script:
            return Checkpoint(path, "TorchScript", _read_torchscript(path, archive, roots[0]))
    return Checkpoint(path, "torch.save", torch.load(path, map_location="cpu", weights_only=True, mmap=True))


def _read_legacy(path: Path, start: bytes) -> Checkpoint:
    """Before torch 1.6: pickles of magic number, version, system, object and storage keys, then the raw arrays."""
    with path.open("rb") as file:
        _refuse_code(path, file)
        if not start.startswith(LEGACY_START):
            raise ConversionError(f"{path} is a pickle, but not of torch.save; save its tensors with torch.save.")
        for _ in range(4):
            _refuse_code(path, file)
    return Checkpoint(path, "torch.save (legacy)", torch.load(path, map_location="cpu", weights_only=True))


class _ScriptModule:
    """Stands for every class of a TorchScript archive and keeps the attributes it was saved with."""

    attributes: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in self.attributes.items():
            if isinstance(value, torch.Tensor):
                yield prefix + name, value
            elif isinstance(value, _ScriptModule):
                yield from value.tensors(f"{prefix}{name}.")


class _ScriptUnpickler(pickle.Unpickler):
    """The pickle of a TorchScript archive. It can make modules without methods and tensors, and call nothing else."""

    def __init__(self, pickled: IO[bytes], path: Path, archive: zipfile.ZipFile, root: str):
        super().__init__(pickled)
        self.archive, self.root = archive, root
        with path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.".startswith(SCRIPT_CLASSES):
            return _ScriptModule
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided_tensor
        if module == "torch" and name in STORAGE_TYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a TorchScript module")

    def persistent_load(self, reference: Any) -> torch.Tensor:
        """The array of a storage, mapped: torch writes arrays into its archives uncompressed."""
        _, storage_type, key, _, length = reference
        entry = self.archive.getinfo(f"{self.root}/data/{key}")
        dtype = STORAGE_TYPES[storage_type]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < length * dtype.itemsize:
            raise ConversionError(
                f"{self.archive.filename}: {entry.filename} has {entry.file_size} bytes, expected {length} values of "
                f"{dtype}, uncompressed; the archive is damaged or was packed again."
            )
        header = entry.header_offset  # its last two fields: lengths of the name and of the padding that follow it
        name_length, padding = (int.from_bytes(self.bytes[header + at : header + at + 2], "little") for at in (26, 28))
        if not length:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.bytes, dtype=dtype, count=length, offset=header + 30 + name_length + padding)


def _strided_tensor(array: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    return array.as_strided(size, stride, offset)


def _read_torchscript(path: Path, archive: zipfile.ZipFile, root: str) -> dict[str, torch.Tensor]:
    """Every tensor attribute of the archive's modules, named as in their state dict."""
    with archive.open(f"{root}/data.pkl") as pickled:
        module = _ScriptUnpickler(pickled, path, archive, root).load()
    return dict(module.tensors())
