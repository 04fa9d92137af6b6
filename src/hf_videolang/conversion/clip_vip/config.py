"""The config of a CLIP-ViP: from the shapes of its tensors, and from its training config where shapes do not tell."""

from collections.abc import Mapping
from contextlib import suppress
from math import isqrt
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from hf_videolang.conversion.clip_vip.layouts import (
    CLIP4CLIP,
    INITIALISING,
    SEQUENCE_BLOCKS,
    SEQUENCE_POSITIONS,
    Layout,
)
from hf_videolang.conversion.clip_vip.training_config import TrainingConfig
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig

ADDED_CLS = "vision_model.embeddings.added_cls"
TEMPORAL_EMBEDDING = "vision_model.embeddings.temporal_embedding"
PATCHES = "vision_model.embeddings.patch_embedding.weight"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
TOKENS = "text_model.embeddings.token_embedding.weight"
FRAME_POSITIONS = "positions of a frame"  # no field of the config: patches of a frame and the class token
CLIP_HEAD_WIDTH = 64

Decisions = dict[str, tuple[Any, str]]  # field → value, and what decided it


def derive_config(
    tensors: Mapping[str, Tensor], layout: Layout, training_config: TrainingConfig
) -> tuple[CLIPViPConfig, dict[str, str]]:
    """
    The config, and field → value with what decided it, for the report.

    The training config decides what shapes cannot, and must agree with them on the rest. Where a tensor is missing
    or has the wrong number of dimensions, the config keeps its default, and the mapping of the tensors reports it.

    Raises:
        ConversionError: a shape contradicts the training config or the file itself, or the config is not valid.
    """
    stated = {name: (value, training_config.source) for name, value in training_config.stated.items()}
    fusion = stated.get("vision_config.frame_fusion") or _frame_fusion(tensors, layout)
    found = _sizes(tensors, layout, fusion[0])

    claims = [(source, name, value) for name, (value, source) in stated.items()]
    claims += layout.redundant_sizes(tensors)
    lines = [
        f"\n  {name}: {source} says {value}, {found[name][1]} says {found[name][0]}"
        for source, name, value in claims
        if name in found and found[name][0] != value
    ]
    if lines:
        raise ConversionError(
            f"The checkpoint does not agree with its config or with itself:{''.join(lines)}\n"
            "Use the original file, and as --config the JSON that it was trained with."
        )

    decided = stated | found | {"vision_config.frame_fusion": fusion}
    decided |= _heads(decided) | _special_tokens(decided)
    decided.pop(FRAME_POSITIONS, None)
    nested: dict[str, Any] = {"text_config": {}, "vision_config": {}}
    for name, (value, _) in decided.items():
        part, _, field = name.rpartition(".")
        (nested[part] if part else nested)[field] = value
    try:
        config = CLIPViPConfig(**nested, dtype="float32")
    except (StrictDataclassError, ValueError) as error:
        raise ConversionError(f"The checkpoint and {training_config.source} give no valid model: {error}") from error
    return config, {name: f"{value}, from {source}" for name, (value, source) in sorted(decided.items())}


def _frame_fusion(tensors: Mapping[str, Tensor], layout: Layout) -> tuple[str, str]:
    """Without a training config, the names of the tensors decide."""
    if layout.flavour in INITIALISING:
        return "proxy", "default: CLIP becomes CLIP-ViP"
    if layout.flavour == CLIP4CLIP:
        if layout.origin(SEQUENCE_POSITIONS)[0] in tensors:
            return "sequence_transformer", "the file has transformerClip"
        return "mean_pooling", "the file has no transformerClip"
    if any(layout.origin(name)[0] in tensors for name in (ADDED_CLS, TEMPORAL_EMBEDDING)):
        return "proxy", "the file has proxies or a temporal embedding"
    return "mean_pooling", "the file has neither proxies nor a temporal embedding"


def _sizes(tensors: Mapping[str, Tensor], layout: Layout, fusion: str) -> Decisions:
    found: Decisions = {}

    def size(field: str, name: str, axis: int, added: int = 0) -> None:
        key, transform = layout.origin(name)
        with suppress(KeyError, IndexError, RuntimeError):  # the mapping reports the tensor
            if value := transform(tensors[key]).shape[axis] + added:
                found[field] = value, f"the shape of {key}"

    def layers(field: str, blocks: str) -> None:
        found[field] = max(layout.num_layers(blocks, tensors), 1), "the keys of the layers"

    size("projection_dim", "visual_projection.weight", 0)
    size("text_config.vocab_size", TOKENS, 0)
    size("text_config.hidden_size", TOKENS, 1)
    size("text_config.intermediate_size", "text_model.encoder.layers.0.mlp.fc1.weight", 0)
    size("text_config.max_position_embeddings", "text_model.embeddings.position_embedding.weight", 0)
    layers("text_config.num_hidden_layers", "text_model.encoder.layers")
    size("vision_config.hidden_size", PATCHES, 0)
    size("vision_config.num_channels", PATCHES, 1)
    size("vision_config.patch_size", PATCHES, 2)
    size(FRAME_POSITIONS, POSITIONS, 0)
    size("vision_config.intermediate_size", "vision_model.encoder.layers.0.mlp.fc1.weight", 0)
    layers("vision_config.num_hidden_layers", "vision_model.encoder.layers")
    if fusion == "proxy":
        size("vision_config.num_proxy_tokens", ADDED_CLS, 0, added=1)
    if fusion in ("proxy", "full_attention"):
        size("vision_config.num_frames", TEMPORAL_EMBEDDING, 1)
    if fusion == "sequence_transformer":
        size("vision_config.max_sequence_frames", SEQUENCE_POSITIONS, 0)
        layers("vision_config.num_sequence_layers", SEQUENCE_BLOCKS)
    if {FRAME_POSITIONS, "vision_config.patch_size"} <= found.keys():
        (positions, source), (patch_size, _) = found[FRAME_POSITIONS], found["vision_config.patch_size"]
        found["vision_config.image_size"] = max(isqrt(positions - 1), 1) * patch_size, source
    return found


def _heads(decided: Decisions) -> Decisions:
    """Heads are 64 wide in every published CLIP. Shapes do not tell, so another width needs a config."""
    widths = {
        "text_config.num_attention_heads": "text_config.hidden_size",
        "vision_config.num_attention_heads": "vision_config.hidden_size",
    }
    if decided["vision_config.frame_fusion"][0] == "sequence_transformer":
        widths["vision_config.num_sequence_heads"] = "projection_dim"
    heads: Decisions = {}
    for name, width_name in widths.items():
        if name in decided or width_name not in decided:
            continue
        width = decided[width_name][0]
        if width % CLIP_HEAD_WIDTH:
            raise ConversionError(
                f"Shapes do not tell {name}, and {width_name}, {width}, is not a multiple of {CLIP_HEAD_WIDTH}, the "
                "width of CLIP's heads; pass the JSON that the checkpoint was trained with as --config."
            )
        heads[name] = width // CLIP_HEAD_WIDTH, f"width / {CLIP_HEAD_WIDTH}, as in every published CLIP"
    return heads


def _special_tokens(decided: Decisions) -> Decisions:
    """CLIP's last two entries are the start and the end of a text, and CLIP-ViP pads with the end."""
    if "text_config.vocab_size" not in decided:
        return {}
    end = decided["text_config.vocab_size"][0] - 1
    ids = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    return {f"text_config.{name}": (value, "the end of the vocabulary") for name, value in ids.items()}
