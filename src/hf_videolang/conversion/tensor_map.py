"""Strict mapping from the values of a checkpoint to the tensors of a model: none left over, none left out."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from hf_videolang.conversion.untrusted import Checkpoint, ConversionError

# Where a tensor of the model comes from: the source's key, and what to do with its tensor (a view, not a copy).
Origin = tuple[str, Callable[[Tensor], Tensor]]


def as_is(tensor: Tensor) -> Tensor:
    return tensor


# What torch.compile and data parallelism put before every name.
WRAPPERS = r"^(?:module\.|_orig_mod\.)*"
STATE_DICT = "model_state_dict"  # entry of a training state
# What the authors' training scripts save beside `model_state_dict`.
TRAINING_STATE = {
    "global_step": "number of the training step",
    "optim_state_dict": "state of the optimiser",
    "amp_state_dict": "state of the loss scaling",
}


@dataclass
class TensorMap:
    """The account of a conversion."""

    # Model key → a view of the source's tensor, or a created one.
    tensors: dict[str, Tensor] = field(default_factory=dict)
    # Model key → dtype in which the model keeps it.
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    # Source key → model keys made from it.
    renamed: dict[str, list[str]] = field(default_factory=dict)
    # Source key → why the model does not need it.
    dropped: dict[str, str] = field(default_factory=dict)
    # Model key → how its value was made, if the source does not have it.
    created: dict[str, str] = field(default_factory=dict)


def state_dict(checkpoint: Checkpoint, entry: str = STATE_DICT) -> tuple[dict[str, Any], str]:
    """
    The named values of a checkpoint in one dict.

    It may be a state dict, or a training state that has one as its `entry`. The other entries of a training state
    are returned beside its values, so that they have to be accounted for, too.

    Returns:
        Name → value, and the prefix (`"module."`, `"_orig_mod."` or both) that was removed from every name of the
        state dict. Both are empty if the checkpoint holds something else than named values.
    """
    content = checkpoint.content
    if not isinstance(content, Mapping):
        return {}, ""
    inner = content.get(entry)
    values, others = (inner, content) if isinstance(inner, Mapping) else (content, {})
    if not all(isinstance(name, str) for name in (*values, *others)):
        return {}, ""
    wrappers = re.findall(WRAPPERS, next(iter(values), ""))[0]
    prefix = wrappers if all(name.startswith(wrappers) for name in values) else ""
    named = {name.removeprefix(prefix): value for name, value in values.items()}
    return named | {name: value for name, value in others.items() if name != entry}, prefix


def model_tensors(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, Tensor]:
    """Name → tensor of the model's state dict, on the meta device: shapes and dtypes without memory."""
    with torch.device("meta"):
        return model_class(config).state_dict()


def untied_tensors(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, Tensor]:
    """[`model_tensors`] without those that share the values of others, which a file does not repeat."""
    tied: Any = model_class._tied_weights_keys or {}
    return {name: tensor for name, tensor in model_tensors(model_class, config).items() if name not in tied}


def new_layers(
    targets: Mapping[str, Tensor], names: Iterable[str], std: float, seed: int
) -> dict[str, tuple[Tensor, str]]:
    """New linear layers and norms as the originals start them: name → tensor and how it was made."""
    generator, created = torch.Generator().manual_seed(seed), {}
    for name in names:
        shape = targets[name].shape
        if len(shape) == 2:
            value = torch.empty(shape).normal_(std=std, generator=generator)
            created[name] = value, f"normal, standard deviation {std}, seed {seed}"
        else:
            ones = name.endswith("weight")
            created[name] = torch.full(shape, float(ones)), "ones" if ones else "zeros"
    return created


def size_of(values: Mapping[str, Any], key: str, axis: int) -> int | None:
    """Of a tensor of a checkpoint; `None` if it is missing, which the mapping reports."""
    value = values.get(key)
    return value.shape[axis] if isinstance(value, Tensor) and value.ndim > axis else None


def map_tensors(
    source: Mapping[str, Any],
    targets: Mapping[str, Tensor],
    origin: Callable[[str], Origin],
    drop_reason: Callable[[str], str | None],
    created: Mapping[str, tuple[Tensor, str]] | None = None,
) -> TensorMap:
    """
    Fill every tensor of a model once, and account for every key of the source.

    Args:
        source: the checkpoint's values. Those that are not tensors must be dropped.
        targets: model key → tensor with the shape and dtype that the model needs, usually [`model_tensors`]. Any
            floating-point tensor fits a floating-point target and is cast when it is written; other dtypes must agree.
        origin: model key → source key and transformation.
        drop_reason: source key → why it may be left out, or `None` if it may not. The entries in [`TRAINING_STATE`]
            always may.
        created: model key → new tensor and how it was made, for keys that need no source.

    Raises:
        ConversionError: keys are missing, left over, of the wrong shape or dtype, or not finite. All are listed.
    """
    created = created or {}
    result = TensorMap(dtypes={name: target.dtype for name, target in targets.items()})
    missing, unfit = [], []
    for name, target in targets.items():
        if name in created:
            result.tensors[name], result.created[name] = created[name]
            continue
        key, transform = origin(name)
        if key not in source:
            missing.append(key)
            continue
        result.renamed.setdefault(key, []).append(name)
        tensor = source[key]
        if problem := _dtype_problem(tensor, target.dtype):
            unfit.append(f"{key} {problem}")
            continue
        try:
            result.tensors[name] = transform(tensor)
        except (RuntimeError, IndexError):  # the shape cannot even be transposed or split
            unfit.append(
                f"{key} has shape {list(tensor.shape)}, from which {name} {list(target.shape)} cannot be taken"
            )
            continue
        if (found := result.tensors[name].shape) != target.shape:
            part = "" if found == tensor.shape else f" for {name}"
            unfit.append(f"{key} has shape {list(tensor.shape)}, expected {list(target.shape)}{part}")
        elif target.is_floating_point() and not _is_finite(result.tensors[name].to(target.dtype)):
            unfit.append(f"{key} holds NaN or infinity (as {target.dtype}), expected finite numbers")
    leftover = [key for key in source if key not in result.renamed]
    reasons = {key: TRAINING_STATE.get(key) or drop_reason(key) for key in leftover}
    result.dropped = {key: reason for key, reason in reasons.items() if reason}
    unexpected = [key for key, reason in reasons.items() if not reason]
    if missing or unexpected or unfit:
        raise ConversionError(_disagreement(list(dict.fromkeys(missing)), unexpected, list(dict.fromkeys(unfit))))
    return result


def _dtype_problem(value: Any, dtype: torch.dtype) -> str | None:
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, expected a tensor"
    if dtype.is_floating_point and not value.is_floating_point():
        return f"holds {value.dtype}, expected floating-point numbers"
    if not dtype.is_floating_point and value.dtype != dtype:
        return f"holds {value.dtype}, expected {dtype}"
    return None


def _is_finite(tensor: Tensor) -> bool:
    # NaN and infinity reach the extremes; torch.isfinite would copy the tensor twice.
    return not tensor.numel() or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _disagreement(missing: list[str], unexpected: list[str], unfit: list[str]) -> str:
    lines = ["The checkpoint does not fit the model:"]
    for key in missing:
        close = get_close_matches(key, unexpected, n=1, cutoff=0.8)
        lines.append(f"  missing: {key}" + (f" (renamed to {close[0]}?)" if close else ""))
    lines += [f"  unexpected: {key}" for key in unexpected]
    lines += [f"  unfit: {line}" for line in unfit]
    return "\n".join([*lines, "Use the original file, and as --config the one that it was trained with."])
