"""What shapes cannot tell about a checkpoint: from the JSON it was trained with, or a Hub CLIP's `config.json`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_videolang.conversion.untrusted import HUB_WEIGHTS, ConversionError

VISION_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
)
TEXT_SIZES = (*VISION_SIZES[:4], "vocab_size", "max_position_embeddings", "hidden_act")

CLIP4CLIP_SIZES = {
    "vision_config": {
        "hidden_size": "vision_width",
        "num_hidden_layers": "vision_layers",
        "num_attention_heads": "vision_heads",
        "image_size": "image_resolution",
        "patch_size": "vision_patch_size",
    },
    "text_config": {
        "hidden_size": "transformer_width",
        "num_hidden_layers": "transformer_layers",
        "num_attention_heads": "transformer_heads",
        "vocab_size": "vocab_size",
        "max_position_embeddings": "context_length",
    },
}
CLIP4CLIP_HEADS = {"meanP": "mean_pooling", "seqTransf": "sequence_transformer"}


@dataclass(frozen=True)
class TrainingConfig:
    """
    Args:
        source: where it is from, for messages and the report.
        stated: fields of [`CLIPViPConfig`] that it states; those that tensors tell, too, must agree with them.
        num_frames: frames of a clip, `None` if not stated.
        max_length: tokens of a text, `None` if not stated.
    """

    source: str = "no config"
    stated: dict[str, Any] = field(default_factory=lambda: {"vision_config": {}, "text_config": {}})
    num_frames: int | None = None
    max_length: int | None = None


def read_training_config(config: str | Path | None, weight_file: Path) -> TrainingConfig:
    """
    Args:
        config: the original's training JSON; `None` if there is none.
        weight_file: the checkpoint; the `config.json` of a Hub CLIP may lie beside it.

    Raises:
        ConversionError: the JSON cannot be read, or is of another kind.
    """
    beside = weight_file.with_name("config.json")
    hub = _read_json(beside) if weight_file.name in HUB_WEIGHTS and beside.is_file() else {}
    if hub.get("model_type") == "clip_vip":
        raise ConversionError(f"{weight_file.parent} is converted already; load it with AutoModel.from_pretrained.")
    hub_sizes = _clip_sizes(hub) if hub.get("model_type") == "clip" else None
    if config is None:
        return TrainingConfig(beside.name, hub_sizes) if hub_sizes else TrainingConfig()
    path = Path(config)
    if not path.is_file():
        raise ConversionError(f"{path}: there is no such config file.")
    original = _read_json(path)
    try:
        if "sim_header" in original:
            return _clip4clip(original, path)
        if "clip_vision_additional_config" in original:
            return _wrapper(original, path, hub_sizes)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ConversionError(f"{path} has a value of the wrong kind: {error}.") from error
    raise ConversionError(
        f"{path} is no training config of CLIP-ViP (with clip_vision_additional_config) or CLIP4Clip (with sim_header); "
        f"it has {', '.join(list(original)[:5]) or 'no keys'}. Leave --config out if there is none."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds a {type(content).__name__}, expected a JSON object.")
    return content


def _clip_sizes(clip: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Hub CLIP's config that ours has, too, and that decide anything."""
    stated: dict[str, Any] = {"projection_dim": clip["projection_dim"]} if "projection_dim" in clip else {}
    for part, names in (("vision_config", VISION_SIZES), ("text_config", TEXT_SIZES)):
        stated[part] = {name: clip[part][name] for name in names if name in (clip.get(part) or {})}
    return stated


def _wrapper(original: dict[str, Any], path: Path, hub_sizes: dict[str, Any] | None) -> TrainingConfig:
    # A clip_config that is a string names a config on the Hub: published CLIPs have heads of 64, as is assumed anyway.
    inline = original["clip_config"] if isinstance(original.get("clip_config"), dict) else {}
    stated = _clip_sizes(inline) if inline or not hub_sizes else hub_sizes
    vision, additional = stated["vision_config"], original["clip_vision_additional_config"]
    vision["frame_fusion"] = {"ViP": "proxy", "FullAttention": "full_attention"}.get(
        additional.get("type"), "mean_pooling"
    )
    if "temporal_size" in additional:
        vision["num_frames"] = additional["temporal_size"]
    if vision["frame_fusion"] == "proxy" and "add_cls_num" in additional:
        vision["num_proxy_tokens"] = additional["add_cls_num"] + 1
    if vision["frame_fusion"] != "mean_pooling" and "if_use_temporal_embed" in additional:
        vision["use_temporal_embedding"] = bool(additional["if_use_temporal_embed"])
    if "logit_scale_init_value" in additional:
        stated["logit_scale_init_value"] = additional["logit_scale_init_value"]
    if "input_res" in original:
        vision.setdefault("image_size", original["input_res"][0])
    num_frames = original.get("test_num_frms", original.get("train_num_frms"))
    return TrainingConfig(path.name, stated, num_frames, original.get("max_txt_len"))


def _clip4clip(original: dict[str, Any], path: Path) -> TrainingConfig:
    if original["sim_header"] not in CLIP4CLIP_HEADS:
        raise ConversionError(
            f"{path} has sim_header {original['sim_header']!r}; of CLIP4Clip's heads only "
            f"{' and '.join(CLIP4CLIP_HEADS)} can be converted."
        )
    stated: dict[str, Any] = {
        part: {ours: original[theirs] for ours, theirs in names.items() if theirs in original}
        for part, names in CLIP4CLIP_SIZES.items()
    }
    if "embed_dim" in original:
        stated["projection_dim"] = original["embed_dim"]
    vision = stated["vision_config"]
    vision["frame_fusion"] = CLIP4CLIP_HEADS[original["sim_header"]]
    if vision["frame_fusion"] == "sequence_transformer":
        if "transformer_heads" in original:
            vision["num_sequence_heads"] = original["transformer_heads"]
        if "cross_num_hidden_layers" in original:
            vision["num_sequence_layers"] = original["cross_num_hidden_layers"]
    if "max_frames" in original:
        vision["num_frames"] = original["max_frames"]
    return TrainingConfig(path.name, stated, original.get("max_frames"), original.get("max_words"))
