"""
Finds the family that knows a checkpoint, and converts the checkpoint.

A family is a module of this package with the name of a package in `hf_videolang.models`. It offers

    NAME            the name of the system
    EXPECTED        what the keys of its checkpoints look like, for error messages
    ALSO_HARMLESS   types beyond those of tensors that its checkpoints contain, as `read_checkpoint` takes them
    OPTIONS         name → meaning of what `convert` takes beyond the usual options; a `bool` there is a flag
    recognises      whether a [`Checkpoint`] is one of the family's
    convert         makes a [`Conversion`] of a [`Checkpoint`]; its keyword arguments are the options it knows
"""

import inspect
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import hf_videolang.conversion
import hf_videolang.models
from hf_videolang.conversion.model_folder import check_is_free, write_model_folder
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError, read_checkpoint


def families() -> list[ModuleType]:
    """The modules of all families whose checkpoints can be converted."""
    with_models = {module.name for module in iter_modules(hf_videolang.models.__path__)}
    return [
        import_module(f"hf_videolang.conversion.{module.name}")
        for module in iter_modules(hf_videolang.conversion.__path__)
        if module.name in with_models
    ]


def convert(
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    family: ModuleType | None = None,
    push_to_hub: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """
    Convert an original checkpoint into a folder that `from_pretrained` loads.

    Args:
        checkpoint: the original file; for a model on the Hub also its folder.
        output_dir: folder to make. It must not exist, or be empty.
        family: take the file for one of this family; by default the family is found by the file's keys.
        push_to_hub: `"ORGANISATION/NAME"` to upload the finished folder to.
        options: of the family's own `convert`: `config` (the file that the original was trained with), `tokenizer`
            (folder or Hub id), `seed` (of new weights) and the family's `OPTIONS`, as far as the family knows them.

    Returns:
        The content of `conversion_report.json`: sha256 of the source, counts, what every key became, versions.

    Raises:
        ConversionError: the file, its config or its tokenizer cannot be used. No folder is left behind.
        HFValidationError: `push_to_hub` is not the id of a repository.

    Example:
        >>> convert("pretrain_clipvip_base_16.pt", "clip-vip-b16")["counts"]["parameters"]
        149638145
    """
    output_dir = Path(output_dir).absolute()
    check_is_free(output_dir, push_to_hub)
    candidates = [family] if family else families()
    source = read_checkpoint(checkpoint, [kind for each in candidates for kind in each.ALSO_HARMLESS])
    found = next((each for each in candidates if each.recognises(source)), None)
    if found is None:
        raise ConversionError(_unknown(source, candidates))
    if unknown := options.keys() - inspect.signature(found.convert).parameters.keys():
        names = " and no --".join(sorted(unknown)).replace("_", "-")
        raise ConversionError(f"A checkpoint of {found.NAME} takes no --{names}.")
    conversion = found.convert(source, **options)
    facts = source.facts()
    with_files = [
        part
        for name, value in options.items()
        if value is not None and (name == "config" or name in found.OPTIONS)
        for part in (f"--{name.replace('_', '-')}", *([] if value is True else [Path(value).name]))
    ]
    command = ["hf-videolang", "convert", source.path.name, *with_files, "--output-dir", output_dir.name]
    del source  # so that the original is unmapped before the new file is mapped
    return write_model_folder(conversion, output_dir, facts, shlex.join(command), push_to_hub)


def _unknown(source: Checkpoint, candidates: list[ModuleType]) -> str:
    content = source.content
    held = f"a {type(content).__name__}"
    if isinstance(content, Mapping):
        held = f"{len(content)} entries: {', '.join(map(str, list(content)[:5]))}{' …' if len(content) > 5 else ''}"
    expected = "".join(f"\n  {family.NAME}: {family.EXPECTED}" for family in candidates)
    return f"{source.path} is of no known family. It holds {held}.\nExpected the keys of{expected}"
