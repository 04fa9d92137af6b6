"""The config of a CLIP-ViP from the shapes of its tensors, and from its training config where shapes are silent."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from hf_videolang.conversion.clip_vip.layouts import CLIP4CLIP, INITIALISING, Layout
from hf_videolang.conversion.clip_vip.training_config import TrainingConfig
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel

ADDED_CLS = "vision_model.embeddings.added_cls"
TEMPORAL_EMBEDDING = "vision_model.embeddings.temporal_embedding"
PATCHES = "vision_model.embeddings.patch_embedding.weight"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
TOKENS = "text_model.embeddings.token_embedding.weight"
SEQUENCE_POSITIONS = "sequence_transformer.frame_position_embedding.weight"
FRAME_POSITIONS = "positions of a frame"  # no field of the config: patches of a frame and the class token
CLIP_HEAD_WIDTH = 64

Decisions = dict[str, tuple[Any, str]]  # field → value, and what decided it


def model_shapes(config: CLIPViPConfig) -> dict[str, torch.Size]:
    """Name → shape of every tensor of the model; no memory is taken for them."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in CLIPViPModel(config).state_dict().items()}


def derive_config(
    tensors: Mapping[str, torch.Tensor], layout: Layout, training_config: TrainingConfig, what: str
) -> tuple[CLIPViPConfig, dict[str, str]]:
    """
    Args:
        tensors, layout: of the checkpoint.
        training_config: decides what shapes cannot, and must agree with them on the rest.
        what: how messages call the checkpoint.

    Returns:
        The config, and field → value with what decided it, for the report.

    Raises:
        ConversionError: a shape that no CLIP has, or one that contradicts the training config or the file itself.
    """
    stated = {name: (value, training_config.source) for name, value in _flat(training_config.stated).items()}
    fusion = stated.get("vision_config.frame_fusion") or _frame_fusion(tensors, layout)
    found, assumed = _sizes(tensors, layout, fusion[0], what)

    claims = [(source, name, value) for name, (value, source) in stated.items()]
    claims += layout.redundant_sizes(tensors)
    if wrong := [claim for claim in claims if claim[1] in found and found[claim[1]][0] != claim[2]]:
        lines = "".join(
            f"\n  {name}: {source} says {value}, {found[name][1]} says {found[name][0]}"
            for source, name, value in wrong
        )
        raise ConversionError(
            f"{what} does not agree with its config or with itself:{lines}\n"
            "Use the original file, and as --config the JSON it was trained with."
        )

    decided = assumed | stated | found | {"vision_config.frame_fusion": fusion}
    decided |= _heads(decided, what) | _special_tokens(decided["text_config.vocab_size"][0])
    decided.pop(FRAME_POSITIONS)
    nested: dict[str, Any] = {"text_config": {}, "vision_config": {}}
    for name, (value, _) in decided.items():
        part, _, part_field = name.rpartition(".")
        (nested[part] if part else nested)[part_field] = value
    try:
        config = CLIPViPConfig(**nested, architectures=[CLIPViPModel.__name__], dtype="float32")
    except (StrictDataclassError, ValueError) as error:
        raise ConversionError(
            f"{what} and its config ({training_config.source}) give no valid model: {error}"
        ) from error
    return config, {name: f"{value}, from {source}" for name, (value, source) in sorted(decided.items())}


def _flat(stated: dict[str, Any]) -> dict[str, Any]:
    """{"vision_config": {"patch_size": 16}} → {"vision_config.patch_size": 16}"""
    flat: dict[str, Any] = {}
    for name, value in stated.items():
        flat |= (
            {f"{name}.{part}": inner for part, inner in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _frame_fusion(tensors: Mapping[str, torch.Tensor], layout: Layout) -> tuple[str, str]:
    """Without a training config, the names tell."""
    if layout.flavour in INITIALISING:
        return "proxy", "default: CLIP becomes CLIP-ViP"
    if layout.flavour == CLIP4CLIP:
        if layout.origin(SEQUENCE_POSITIONS)[0] in tensors:
            return "sequence_transformer", "the file has transformerClip"
        return "mean_pooling", "the file has no transformerClip"
    if any(layout.origin(name)[0] in tensors for name in (ADDED_CLS, TEMPORAL_EMBEDDING)):
        return "proxy", "the file has proxies or a temporal embedding"
    return "mean_pooling", "the file has neither proxies nor a temporal embedding"


def _sizes(tensors: Mapping[str, torch.Tensor], layout: Layout, fusion: str, what: str) -> tuple[Decisions, Decisions]:
    """What shapes decide; and, for tensors that are missing (which the mapping will report), what B/32 has."""
    typical = model_shapes(CLIPViPConfig(vision_config={"frame_fusion": fusion}))
    found: Decisions = {}
    assumed: Decisions = {}

    def size(field: str, name: str, axis: int, added: int = 0) -> None:
        key, transform = layout.origin(name)
        shape = tensors[key].shape if key in tensors else typical[name]
        if len(shape) != len(typical[name]):
            raise ConversionError(f"{what}: {key} has shape {list(shape)}, expected {len(typical[name])} dimensions.")
        value = transform(torch.empty(shape, device="meta")).shape[axis] + added
        if value < 1:
            raise ConversionError(f"{what}: {key} has shape {list(shape)}, it is empty.")
        (found if key in tensors else assumed)[field] = value, f"the shape of {key}"

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
    if layout.origin(ADDED_CLS)[0] in tensors and fusion == "proxy":
        size("vision_config.num_proxy_tokens", ADDED_CLS, 0, added=1)
    if layout.origin(TEMPORAL_EMBEDDING)[0] in tensors and TEMPORAL_EMBEDDING in typical:
        size("vision_config.num_frames", TEMPORAL_EMBEDDING, 1)
    if fusion == "sequence_transformer":
        size("vision_config.max_sequence_frames", SEQUENCE_POSITIONS, 0)
        layers("vision_config.num_sequence_layers", "sequence_transformer.layers")

    positions, source = (found | assumed)[FRAME_POSITIONS]
    grid = isqrt(max(positions - 1, 0))
    if grid == 0 or grid * grid != positions - 1:
        raise ConversionError(f"{what}: {source} has {positions} rows, expected one more than a square number.")
    if FRAME_POSITIONS in found and "vision_config.patch_size" in found:
        found["vision_config.image_size"] = grid * found["vision_config.patch_size"][0], source
    return found, assumed


def _heads(decided: Decisions, what: str) -> Decisions:
    """Heads are 64 wide in every published CLIP; shapes do not tell, so another width needs a config."""
    widths = {
        "text_config.num_attention_heads": "text_config.hidden_size",
        "vision_config.num_attention_heads": "vision_config.hidden_size",
    }
    if decided["vision_config.frame_fusion"][0] == "sequence_transformer":
        widths["vision_config.num_sequence_heads"] = "projection_dim"
    heads: Decisions = {}
    for name in sorted(widths.keys() - decided.keys()):
        width = decided[widths[name]][0]
        if width % CLIP_HEAD_WIDTH:
            raise ConversionError(
                f"{what}: shapes do not tell {name}, and {widths[name]}, {width}, is no multiple of CLIP's width of a "
                f"head, {CLIP_HEAD_WIDTH}; pass the JSON it was trained with as --config."
            )
        heads[name] = width // CLIP_HEAD_WIDTH, f"width / {CLIP_HEAD_WIDTH}, as in every published CLIP"
    return heads


def _special_tokens(vocabulary_size: int) -> Decisions:
    """CLIP's last two entries are the start and the end of a text, and CLIP-ViP pads with the end."""
    ids = {
        "bos_token_id": vocabulary_size - 2,
        "eos_token_id": vocabulary_size - 1,
        "pad_token_id": vocabulary_size - 1,
    }
    return {f"text_config.{name}": (value, "the end of the vocabulary") for name, value in ids.items()}
