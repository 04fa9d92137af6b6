"""Reads what shapes do not tell: from the JSON of the training, or from the `config.json` of a CLIP on the Hub."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_videolang.conversion.untrusted import HUB_WEIGHTS, ConversionError, read_json

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

# CLIP4Clip's names → ours
CLIP4CLIP_SIZES = {
    "embed_dim": "projection_dim",
    "vision_width": "vision_config.hidden_size",
    "vision_layers": "vision_config.num_hidden_layers",
    "vision_heads": "vision_config.num_attention_heads",
    "image_resolution": "vision_config.image_size",
    "vision_patch_size": "vision_config.patch_size",
    "transformer_width": "text_config.hidden_size",
    "transformer_layers": "text_config.num_hidden_layers",
    "transformer_heads": "text_config.num_attention_heads",
    "vocab_size": "text_config.vocab_size",
    "context_length": "text_config.max_position_embeddings",
    "max_frames": "vision_config.num_frames",
}
CLIP4CLIP_SEQUENCE_SIZES = {
    "transformer_heads": "vision_config.num_sequence_heads",
    "cross_num_hidden_layers": "vision_config.num_sequence_layers",
}
CLIP4CLIP_HEADS = {"meanP": "mean_pooling", "seqTransf": "sequence_transformer"}


@dataclass(frozen=True)
class TrainingConfig:
    """What a configuration states; `None` where it says nothing."""

    source: str = "no config"  # the file, for messages and the report
    # Field of CLIPViPConfig ("vision_config.patch_size") → value. What shapes tell, too, must agree.
    stated: dict[str, Any] = field(default_factory=dict)
    num_frames: int | None = None  # of a clip
    max_length: int | None = None  # tokens of a text


def read_training_config(config: str | Path | None, weight_file: Path) -> TrainingConfig:
    """What `config`, the JSON of the training, and the `config.json` beside the weights of a CLIP on the Hub say."""
    beside = weight_file.with_name("config.json")
    hub = read_json(beside) if weight_file.name in HUB_WEIGHTS and beside.is_file() else {}
    if hub.get("model_type") == "clip_vip":
        raise ConversionError(f"{weight_file.parent} is converted already; load it with AutoModel.from_pretrained.")
    hub_sizes = _clip_sizes(hub) if hub.get("model_type") == "clip" else {}
    if config is None:
        return TrainingConfig(beside.name, hub_sizes) if hub_sizes else TrainingConfig()
    path = Path(config)
    original = read_json(path)
    try:
        if "sim_header" in original:
            return _clip4clip(original, path)
        if "clip_vision_additional_config" in original:
            return _wrapper(original, path, hub_sizes)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ConversionError(f"{path} has a value of the wrong kind: {error}.") from error
    raise ConversionError(
        f"{path} is not a training config of CLIP-ViP (with clip_vision_additional_config) or CLIP4Clip (with "
        f"sim_header); it has {', '.join(list(original)[:5]) or 'no keys'}. Leave --config out if there is none."
    )


def _clip_sizes(clip: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Hub CLIP's config that our config has, too, and that decide anything."""
    stated = {"projection_dim": clip["projection_dim"]} if "projection_dim" in clip else {}
    for part, names in (("vision_config", VISION_SIZES), ("text_config", TEXT_SIZES)):
        values = clip.get(part) or {}
        stated |= {f"{part}.{name}": values[name] for name in names if name in values}
    return stated


def _wrapper(original: dict[str, Any], path: Path, hub_sizes: dict[str, Any]) -> TrainingConfig:
    # A clip_config that is a string names a config on the Hub. Published CLIPs have heads of 64, the default.
    inline = original["clip_config"] if isinstance(original.get("clip_config"), dict) else {}
    stated = _clip_sizes(inline) if inline else dict(hub_sizes)
    additional = original["clip_vision_additional_config"]
    fusion = {"ViP": "proxy", "FullAttention": "full_attention"}.get(additional.get("type"), "mean_pooling")
    stated["vision_config.frame_fusion"] = fusion
    if "temporal_size" in additional:
        stated["vision_config.num_frames"] = additional["temporal_size"]
    if fusion == "proxy" and "add_cls_num" in additional:
        stated["vision_config.num_proxy_tokens"] = additional["add_cls_num"] + 1
    if fusion != "mean_pooling" and "if_use_temporal_embed" in additional:
        stated["vision_config.use_temporal_embedding"] = bool(additional["if_use_temporal_embed"])
    if "logit_scale_init_value" in additional:
        stated["logit_scale_init_value"] = additional["logit_scale_init_value"]
    if "input_res" in original:
        stated.setdefault("vision_config.image_size", original["input_res"][0])
    num_frames = original.get("test_num_frms", original.get("train_num_frms"))
    return TrainingConfig(path.name, stated, num_frames, original.get("max_txt_len"))


def _clip4clip(original: dict[str, Any], path: Path) -> TrainingConfig:
    fusion = CLIP4CLIP_HEADS.get(original["sim_header"])
    if fusion is None:
        raise ConversionError(
            f"{path} has sim_header {original['sim_header']!r}; of CLIP4Clip's heads only "
            f"{' and '.join(CLIP4CLIP_HEADS)} can be converted."
        )
    stated = {ours: original[theirs] for theirs, ours in CLIP4CLIP_SIZES.items() if theirs in original}
    stated["vision_config.frame_fusion"] = fusion
    if fusion == "sequence_transformer":
        stated |= {ours: original[theirs] for theirs, ours in CLIP4CLIP_SEQUENCE_SIZES.items() if theirs in original}
    return TrainingConfig(path.name, stated, original.get("max_frames"), original.get("max_words"))
