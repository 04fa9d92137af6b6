"""Writes the folder of a conversion: complete and read back, or not there."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedConfig, PreTrainedModel

import hf_videolang
from hf_videolang.conversion.tensor_map import TensorMap
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.hub.model_card import write_model_card
from hf_videolang.hub.push import push_folder

REPORT = "conversion_report.json"
SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# What transformers notes about the load itself.
LOADING_NOTES = ("_name_or_path", "transformers_version", "_commit_hash")


@dataclass
class Conversion:
    """What a family makes of a checkpoint."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    tensor_map: TensorMap  # writing empties it
    # Saved beside the model, each with `save_pretrained`, `from_pretrained` and `to_dict`: a processor, or a video
    # processor alone; a generation config.
    components: Sequence[Any]
    flavour: str  # the release that the checkpoint is from, in words
    facts: Mapping[str, Any] = field(default_factory=dict)  # further entries of the report
    notes: Sequence[str] = ()  # what the user should know; they are printed
    card: Mapping[str, str] = field(default_factory=dict)  # sections, as `write_model_card` takes them
    further_classes: Sequence[type[PreTrainedModel]] = ()  # whose heads the folder holds, too
    starts: Sequence[type[PreTrainedModel]] = ()  # of whose heads it holds a part, with which training begins


def check_is_free(output_dir: Path, push_to_hub: str | None = None) -> None:
    """
    Raises `ConversionError` if `output_dir` is a file or a folder with something in it, and `HFValidationError` if
    `push_to_hub` is not the id of a repository.
    """
    if push_to_hub is not None:
        validate_repo_id(push_to_hub)
    if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise ConversionError(f"{output_dir} exists and is not an empty folder; remove it or give another one.")


def write_model_folder(
    conversion: Conversion, output_dir: Path, source: Mapping[str, Any], command: str, push_to_hub: str | None = None
) -> dict[str, Any]:
    """
    Write weights, config, components, the code that reads them, report and card; read all back; push if asked.

    Args:
        conversion: what to write. Nothing else should hold the checkpoint's tensors: they are released once written.
        output_dir: folder to make.
        source: facts about the checkpoint, for the report; `file` and `sha256` also stand in the card.
        command: what made the folder, for the card.
        push_to_hub: `"ORGANISATION/NAME"` to upload the folder to.

    Returns:
        The content of `conversion_report.json`.

    Raises:
        RuntimeError: the folder does not reload as written. Nothing is left behind.
        ConversionError: the folder is complete, but could not be pushed.
    """
    tensor_map = conversion.tensor_map
    report = {
        "source": {**source, "flavour": conversion.flavour},
        "counts": {
            "source_keys": len(tensor_map.renamed) + len(tensor_map.dropped),
            "model_tensors": len(tensor_map.tensors),
            "parameters": sum(tensor.numel() for tensor in tensor_map.tensors.values()),
            "dropped": len(tensor_map.dropped),
            "created": len(tensor_map.created),
        },
        **conversion.facts,
        "created": tensor_map.created,
        "dropped": tensor_map.dropped,
        "renamed": tensor_map.renamed,
        "notes": list(conversion.notes),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (hf_videolang, torch, transformers, safetensors)},
        },
    }
    conversion.config.architectures = [one.__name__ for one in (conversion.model_class, *conversion.further_classes)]
    provenance = (
        f"Converted from `{source['file']}` (sha256 `{source['sha256']}`, {conversion.flavour}), "
        f"{report['counts']['parameters']:,} parameters, with `{command}`. The conversion is strict; "
        f"`{REPORT}` accounts for every tensor."
    )
    with new_folder(output_dir) as folder:
        digests = write_safetensors(tensor_map, folder / "model.safetensors")
        for part in (conversion.config, *conversion.components):
            part.save_pretrained(folder)
        check_reloads(folder, conversion, digests)
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_model_card(folder, push_to_hub, provenance=provenance, **conversion.card)
    if push_to_hub is not None:
        try:
            push_folder(output_dir, push_to_hub)
        except Exception as error:  # refused, no token, no network: the folder is good all the same
            raise ConversionError(
                f"{output_dir} is complete, but was not pushed: {error}\nCheck `hf auth whoami`, then: "
                f"hf upload {push_to_hub} {output_dir}"
            ) from error
    return report


@contextmanager
def new_folder(output_dir: Path) -> Iterator[Path]:
    """A folder to write into. It gets its name when the block ends; if the block fails, it is removed."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output_dir.name}-", dir=output_dir.parent) as temporary:
        folder = Path(temporary) / output_dir.name
        folder.mkdir()
        yield folder
        if output_dir.exists():
            output_dir.rmdir()  # empty; not every system renames onto an existing folder
        os.rename(folder, output_dir)


def write_safetensors(tensor_map: TensorMap, path: Path) -> dict[str, str]:
    """
    Write the tensors one after the other, each cast to the model's dtype; return key → sha256 of its bytes.

    Empties `tensor_map.tensors`. `safetensors.torch.save_file` would need all casts in memory at once.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    digests, position = {}, 0
    for name, tensor in tensor_map.tensors.items():
        dtype = tensor_map.dtypes[name]
        end = position + dtype.itemsize * tensor.numel()
        shape = list(tensor.shape)
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in list(tensor_map.tensors):
            data = _bytes(tensor_map.tensors.pop(name).to(tensor_map.dtypes[name]))
            file.write(data)
            digests[name] = hashlib.sha256(data).hexdigest()
    return digests


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def check_reloads(folder: Path, conversion: Conversion, digests: Mapping[str, str]) -> None:
    """
    Load the folder with the classes that were written. Raises `RuntimeError` if the config, a component or a tensor
    differs by a bit, or a tensor is missing or unexpected.
    """
    for saved in (conversion.config, *conversion.components):
        found, wanted = type(saved).from_pretrained(folder).to_dict(), saved.to_dict()
        keys = (wanted.keys() | found.keys()).difference(LOADING_NOTES)
        if differing := sorted(key for key in keys if wanted.get(key) != found.get(key)):
            raise RuntimeError(f"{type(saved).__name__} in {folder} reloads with other values of {differing}.")
    problems: dict[str, list[str]] = {}
    state: dict[str, torch.Tensor] = {}
    classes: list[Any] = [conversion.model_class, *conversion.further_classes]
    for model_class in (*classes, *conversion.starts):
        model, info = model_class.from_pretrained(folder, output_loading_info=True)
        if model_class in conversion.starts:
            info.pop("missing_keys")
        problems |= {kind: sorted(map(str, keys)) for kind, keys in info.items() if kind.endswith("_keys") and keys}
        state |= model.state_dict()
    differing = [
        name
        for name, digest in digests.items()
        if name not in state or hashlib.sha256(_bytes(state[name])).hexdigest() != digest
    ]
    if problems or differing:
        raise RuntimeError(f"The model in {folder} does not reload as written: {problems or differing}.")
