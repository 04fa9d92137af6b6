"""
Reads checkpoint files from strangers without running anything in them.

A pickle can name any function and have it called. torch's `weights_only` reader refuses every name but those of the
types that tensors are made of. It does not read TorchScript archives, so this module does: it takes their tensors and
runs none of their code.
"""

import hashlib
import json
import mmap
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file

from hf_videolang.conversion.numpy_pickle import is_numpy_pickle, read_numpy_pickle

HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SAFETENSORS_HEADER_LIMIT = 100_000_000  # bytes; the format's own
PICKLE_LIMIT = 16_000_000  # bytes beside the arrays; enough for 100,000 tensors
SCRIPT_CLASSES = "__torch__."  # prefix of the classes that a TorchScript archive defines itself
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
# A type that torch's reader shall accept, or the type with the name under which files know it.
Harmless = Callable | tuple[Callable, str]


class ConversionError(ValueError):
    """A file that cannot or must not be read, or does not fit. The message says which, why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    path: Path  # the file itself; for a folder, the weight file in it
    container: str  # "torch.save", "torch.save (legacy)", "TorchScript", "safetensors" or "numpy pickle"
    content: Any  # name → tensor; from torch.save whatever was saved, often a nested dict

    def facts(self) -> dict[str, Any]:
        """Name, size and hash of the file, for reports."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = self.path.stat().st_size
        return {"file": self.path.name, "bytes": size, "sha256": digest, "container": self.container}


def read_checkpoint(path: str | Path, also_harmless: Iterable[Harmless] = ()) -> Checkpoint:
    """
    Read a checkpoint without running anything in it.

    Args:
        path: a file of `torch.save` (a zip archive since torch 1.6, bare pickles before), a TorchScript archive, a
            safetensors file or Caffe2's pickle of numpy arrays; or a folder of the Hub with `model.safetensors` or
            `pytorch_model.bin`.
        also_harmless: further types that the pickle may name, as `torch.serialization.safe_globals` takes them. Allow
            only types that cannot run code when a file makes one, such as `argparse.Namespace`.

    Returns:
        A [`Checkpoint`] with its tensors on the CPU, memory-mapped except in bare pickles.

    Raises:
        ConversionError: the file is missing, damaged or of an unknown format, or its pickle names a type that is not
            allowed. The message lists such names.

    Example:
        >>> read_checkpoint("ViT-B-16.pt").content["visual.conv1.weight"].shape
        torch.Size([768, 3, 16, 16])
    """
    path = _weight_file(Path(path))
    with path.open("rb") as file:
        start = file.read(64)
    # Asked first, because the length of a safetensors header may begin with the bytes of a zip archive or a pickle.
    is_safetensors = start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= SAFETENSORS_HEADER_LIMIT
    if not is_safetensors and not start.startswith((b"PK", b"\x80")):
        raise ConversionError(
            f"{path} is not a checkpoint: {_look_of(start)}. Expected a file of torch.save, a TorchScript archive or "
            "a safetensors file."
        )
    with torch.serialization.safe_globals(list(also_harmless)):
        try:
            if is_safetensors:
                return Checkpoint(path, "safetensors", load_file(path))
            if start.startswith(b"PK"):
                checkpoint = _read_archive(path)
            elif is_numpy_pickle(start):
                checkpoint = Checkpoint(path, "numpy pickle", read_numpy_pickle(path))
            else:
                content = torch.load(path, map_location="cpu", weights_only=True)
                checkpoint = Checkpoint(path, "torch.save (legacy)", content)
            _check_size(checkpoint)
            return checkpoint
        except Exception as error:  # a damaged or forged file can fail in any way
            raise ConversionError(f"{path} {_reason(path, error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        ConversionError: there is no such file, or it holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds a {type(content).__name__}, expected a JSON object.")
    return content


def _weight_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = [path / name for name in HUB_WEIGHTS if (path / name).is_file()]
    if not found:
        fault = f"is a folder without {' or '.join(HUB_WEIGHTS)}" if path.is_dir() else "does not exist"
        raise ConversionError(f"{path} {fault}; give the checkpoint file, or the folder of a model on the Hub.")
    return found[0]


def _look_of(start: bytes) -> str:
    if not start:
        return "it is empty"
    if start.startswith(b"version https://"):
        return "it is a git LFS pointer (`git lfs pull` fetches the file)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, the answer to a failed download"
    return f"it starts with {start[:16]!r}"


def _reason(path: Path, error: Exception) -> str:
    refused = set(re.findall(r"GLOBAL (\S+)", str(error)))  # torch stops at the first name
    if refused:
        with suppress(ValueError, pickle.UnpicklingError):  # not a zip archive of torch.save
            refused.update(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        return (
            f"is refused and nothing in it was run: its pickle names {', '.join(sorted(refused))}. Tensors need no "
            "such type, and it could run code. If you trust the file, load it where it was made and save its tensors "
            "alone: torch.save(model.state_dict(), file)."
        )
    # The first line, or what torch's reader stopped at, without torch's advice on how to load unsafe files after all.
    summary = re.findall(r"Unsupported operand \d+", str(error)) or str(error).splitlines() or [type(error).__name__]
    return (
        f"({path.stat().st_size:,} bytes) is truncated, damaged or not a checkpoint: {summary[0]}. Compare its size "
        "with the source's and fetch it again; if it was packed for transport, unpack it."
    )


def _check_size(checkpoint: Checkpoint) -> None:
    """Tensors may repeat their values or share them. A small file could so become larger than all memory."""
    sizes, seen, waiting = {}, set(), [checkpoint.content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            sizes[value.data_ptr(), value.dtype, value.shape, value.stride()] = value.numel() * value.element_size()
        elif id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    if sum(sizes.values()) > checkpoint.path.stat().st_size:
        raise ValueError(f"its tensors state {sum(sizes.values()):,} bytes, more than the file has")


def _read_archive(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive:
        names = [name.lower() for name in archive.namelist()]
        if len(set(names)) < len(names):
            raise ValueError("entries of the archive have the same name but for its case, and readers take either")
        for entry in archive.infolist():  # torch reads some compressed ones whole, and stores arrays uncompressed
            is_limited = entry.filename.endswith("/data.pkl") or entry.compress_type != zipfile.ZIP_STORED
            if is_limited and entry.file_size > PICKLE_LIMIT:
                raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes; at most {PICKLE_LIMIT:,} are read")
        script = [name for name in archive.namelist() if name.endswith("/constants.pkl")]
        if script:
            return Checkpoint(path, "TorchScript", _read_torchscript(path, archive, script[0].split("/")[0]))
    return Checkpoint(path, "torch.save", torch.load(path, map_location="cpu", weights_only=True, mmap=True))


def _read_torchscript(path: Path, archive: zipfile.ZipFile, root: str) -> dict[str, torch.Tensor]:
    """Every tensor attribute of the archive's modules, named as in their state dict."""
    with path.open("rb") as file, archive.open(f"{root}/data.pkl") as pickled:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return dict(_ScriptUnpickler(pickled, mapped, archive, root).load().tensors("", set()))


class _ScriptModule:
    """Stands for every class of a TorchScript archive and keeps the attributes that it was saved with."""

    attributes: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state

    def tensors(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors by their names. A module with several names (of which there may be billions) has the first one."""
        seen.add(id(self))
        for name, value in self.attributes.items():
            if isinstance(value, torch.Tensor):
                yield prefix + name, value
            elif isinstance(value, _ScriptModule) and id(value) not in seen:
                yield from value.tensors(f"{prefix}{name}.", seen)


class _ScriptUnpickler(pickle.Unpickler):
    """Reads the pickle of a TorchScript archive. It makes modules without methods and tensors, and nothing else."""

    def __init__(self, pickled: IO[bytes], mapped: mmap.mmap, archive: zipfile.ZipFile, root: str):
        super().__init__(pickled)
        self.mapped, self.archive, self.root = mapped, archive, root

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.".startswith(SCRIPT_CLASSES):
            return _ScriptModule
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided_tensor
        if module == "torch" and name in STORAGE_TYPES:
            return name
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not a part of tensors")

    def persistent_load(self, reference: Any) -> torch.Tensor:
        """The array of a storage, mapped from the archive, in which torch stores arrays uncompressed."""
        _, storage_type, key, _, length = reference
        dtype, entry = STORAGE_TYPES[storage_type], self.archive.getinfo(f"{self.root}/data/{key}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < length * dtype.itemsize:
            raise ValueError(f"{entry.filename} is not {length} uncompressed values of {dtype}")
        if not length:
            return torch.empty(0, dtype=dtype)
        # A local header of 30 bytes ends with the lengths of the name and the padding between it and the array.
        name_length, padding = struct.unpack_from("<HH", self.mapped, entry.header_offset + 26)
        offset = entry.header_offset + 30 + name_length + padding
        return torch.frombuffer(self.mapped, dtype=dtype, count=length, offset=offset)


def _strided_tensor(array: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    return array.as_strided(size, stride, offset)
