"""Strict mapping from the tensors of a checkpoint to those of a model: nothing left over, nothing left out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import torch

from hf_videolang.conversion.untrusted import ConversionError

# Where a tensor of the model comes from: the source's key and what to do with its tensor (a view, not a copy).
Origin = tuple[str, Callable[[torch.Tensor], torch.Tensor]]


@dataclass
class TensorMap:
    """
    The account of a conversion.

    Args:
        tensors: model key → tensor, a view of the source's or a created one.
        renamed: source key → model keys made from it.
        dropped: source key → why the model does not need it.
        created: model key → how its value was made, for what the source does not have.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    renamed: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    created: dict[str, str] = field(default_factory=dict)


def map_tensors(
    source: Mapping[str, torch.Tensor],
    shapes: Mapping[str, torch.Size],
    origin: Callable[[str], Origin],
    drop_reason: Callable[[str], str | None],
    created: Mapping[str, tuple[torch.Tensor, str]],
    what: str,
) -> TensorMap:
    """
    Fill every tensor of a model exactly once and account for every key of the source.

    Args:
        source: the checkpoint's tensors.
        shapes: model key → shape, for the whole model.
        origin: model key → source key and transformation.
        drop_reason: source key → why it may be left out, or `None` if it may not.
        created: model key → new tensor and how it was made; such keys need no source.
        what: how messages call the checkpoint.

    Raises:
        ConversionError: a key is missing, left over, of the wrong shape or type, or not finite; all of them are listed.
    """
    result = TensorMap()
    missing, unfit = [], []
    for name, shape in shapes.items():
        if name in created:
            result.tensors[name], result.created[name] = created[name]
            continue
        key, transform = origin(name)
        if key not in source:
            missing.append(key)
            continue
        result.renamed.setdefault(key, []).append(name)
        tensor = source[key]
        if not tensor.is_floating_point():
            unfit.append(f"{key} holds {tensor.dtype}, expected floating-point numbers")
            continue
        try:
            result.tensors[name] = transform(tensor)
        except (RuntimeError, IndexError):  # a shape that cannot even be transposed or split
            unfit.append(f"{key} has shape {list(tensor.shape)}, from which {name} {list(shape)} cannot be taken")
            continue
        if (found := result.tensors[name].shape) != shape:
            expected = f"expected {list(shape)}" if found == tensor.shape else f"{name} needs {list(shape)} of it"
            unfit.append(f"{key} has shape {list(tensor.shape)}, {expected}")
        elif not _is_finite(result.tensors[name]):
            unfit.append(f"{key} holds NaN or infinity (as float32), expected finite numbers")
    leftover = [key for key in source if key not in result.renamed]
    result.dropped = {key: reason for key in leftover if (reason := drop_reason(key))}
    unexpected = [key for key in leftover if key not in result.dropped]
    if missing or unexpected or unfit:
        raise ConversionError(_disagreement(what, dict.fromkeys(missing), unexpected, dict.fromkeys(unfit)))
    return result


def _is_finite(tensor: torch.Tensor) -> bool:
    # NaN and infinity reach the extremes; torch.isfinite would copy the tensor twice.
    return all(bool(extreme.isfinite()) for extreme in tensor.to(torch.float32).aminmax())


def _disagreement(what: str, missing: Iterable[str], unexpected: list[str], unfit: Iterable[str]) -> str:
    lines = [f"{what} does not fit the model:"]
    for key in missing:
        close = get_close_matches(key, unexpected, n=1, cutoff=0.8)
        lines.append(f"  missing: {key}" + (f" (renamed to {close[0]}?)" if close else ""))
    lines += [f"  unexpected: {key}" for key in unexpected]
    lines += [f"  unfit: {line}" for line in unfit]
    lines.append(
        "Nothing is dropped or left random in silence: use the original file, and as --config the one it was trained with."
    )
    return "\n".join(lines)
