"""What a conversion writes: a folder that is complete and re-read, or none."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor, PreTrainedConfig
from transformers.processing_utils import ProcessorMixin

from hf_videolang.conversion.untrusted import ConversionError

# What transformers notes about the load itself.
LOADING_NOTES = ("_name_or_path", "transformers_version", "_commit_hash")


def check_is_free(output_dir: Path) -> None:
    """
    Raises:
        ConversionError: `output_dir` is a file, a folder with something in it, or below a file.
    """
    nearest = next(parent for parent in output_dir.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise ConversionError(f"{output_dir} cannot be made: {nearest} is a file; give another folder.")
    if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise ConversionError(f"{output_dir} exists and is not an empty folder; remove it or give another one.")


@contextmanager
def new_folder(output_dir: Path) -> Iterator[Path]:
    """A folder to write into. It gets its name when the block ends; if the block fails, nothing remains of it."""
    output_dir = output_dir.absolute()
    new_parents = [parent for parent in output_dir.parents if not parent.exists()]
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output_dir.name}-", dir=output_dir.parent) as temporary:
            folder = Path(temporary) / output_dir.name
            folder.mkdir()
            yield folder
            if output_dir.exists():
                output_dir.rmdir()  # empty; not every system renames onto an existing folder
            os.rename(folder, output_dir)
    except BaseException:
        with suppress(OSError):  # somebody else has put something into one
            for parent in new_parents:
                parent.rmdir()
        raise


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().reshape(-1).contiguous().numpy().data).hexdigest()


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, str]:
    """
    Write tensors as float32, one after the other: what has to be copied to be cast or transposed is one tensor.

    Returns:
        Key → sha256 of the bytes that were written.
    """
    header, digests, position = {"__metadata__": {"format": "pt"}}, {}, 0
    for name, tensor in tensors.items():
        end = position + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [position, end]}  # type: ignore[dict-item]
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            values = tensor.to(torch.float32).contiguous()
            file.write(values.reshape(-1).numpy().data)
            digests[name] = _digest(values)
    return digests


def check_reloads(folder: Path, config: PreTrainedConfig, processor: Any, digests: Mapping[str, str]) -> None:
    """
    Load the folder as a user will, with the Auto classes, and compare it with what was meant to be written.

    Raises:
        RuntimeError: config, processor or a tensor differs by a bit, is missing or was added.
    """
    auto_processor = AutoProcessor if isinstance(processor, ProcessorMixin) else AutoVideoProcessor
    for saved, loaded in (
        (config, AutoConfig.from_pretrained(folder)),
        (processor, auto_processor.from_pretrained(folder)),
    ):
        wanted, found = ({k: v for k, v in x.to_dict().items() if k not in LOADING_NOTES} for x in (saved, loaded))
        if type(saved) is not type(loaded) or wanted != found:
            differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            raise RuntimeError(
                f"{folder}: {type(saved).__name__} reloads as {type(loaded).__name__}, other in {differing}."
            )
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    problems = {kind: sorted(map(str, keys)) for kind, keys in info.items() if kind.endswith("_keys") and keys}
    found_digests = {name: _digest(tensor) for name, tensor in model.state_dict().items()}
    differing = sorted(
        name for name in digests.keys() | found_digests.keys() if digests.get(name) != found_digests.get(name)
    )
    if problems or differing:
        raise RuntimeError(f"The model in {folder} does not reload as written: {problems or differing}.")
