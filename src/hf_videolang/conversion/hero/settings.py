"""Config and tokenizer of a HERO, from what the authors' files and the user say."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from hf_videolang.conversion.tokenizers import load_tokenizer
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.data.benchmarks.value_features import WIDTHS
from hf_videolang.models.hero.configuration_hero import HeroConfig

# `model` and `video_sub_fusion_method` of the authors' configurations → fusion.
FUSIONS = {
    ("hero", None): "cross_modal",
    ("video_sub_feature_fusion", "add"): "sum",
    ("video_sub_feature_fusion", "concat"): "concatenation",
    ("video_sub_sequence_model", None): "sequence",
}
PARTS = {"f_config": "cross_modal_config", "c_config": "temporal_config", "q_config": "query_config"}
OPTIONAL_PARTS = {"d_config": "decoder_config"}
FIELDS = (
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "layer_norm_eps",
)
ROBERTA, ROBERTA_VOCABULARY = "FacebookAI/roberta-base", 50265


def read_config(path: str | Path | None) -> dict[str, Any]:
    """Fields of the model's config, by the authors' configuration."""
    if path is None:
        return {}
    try:
        original = json.loads(Path(path).read_text(encoding="utf-8"))
        model = original.get("model", "hero")
        method = original["video_sub_fusion_method"] if model == "video_sub_feature_fusion" else None
        fields: dict[str, Any] = {"fusion": FUSIONS[model, method]}
        fields |= {
            ours: {name: original[theirs][name] for name in FIELDS if name in original[theirs]}
            for theirs, ours in (PARTS | OPTIONAL_PARTS).items()
            if theirs in PARTS or theirs in original
        }
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"{path} cannot be read ({error!r}); give the run's model configuration, a JSON with f_config, c_config "
            "and q_config."
        ) from error
    return fields


def vocabulary_size(config: HeroConfig) -> int:
    part: Any = config.cross_modal_config
    return part.vocab_size


def name_features(config: HeroConfig, features: str | None) -> list[str]:
    """Sets `config.features`; returns what the user should know."""
    width = config.video_feature_size
    fitting = [name for name, size in WIDTHS.items() if size == width]
    if features is not None and features != "none" and features not in fitting:
        raise ConversionError(
            f"--features is {features!r}, but the model reads rows of {width}; expected "
            f"{' or '.join([*fitting, 'none'])}. Widths are {WIDTHS}."
        )
    config.features = None if features == "none" else features or next(iter(fitting), None)
    if config.features is None:
        return [f"The features are unknown: any features of width {width} are taken. Name them with --features."]
    return []


def load_roberta_tokenizer(name: str | Path, vocabulary: int) -> Any:
    """
    A tokenizer by folder or Hub id.

    Raises:
        ConversionError: it cannot be loaded, or it is not RoBERTa's of at most `vocabulary` words.
    """
    fitting = load_tokenizer(AutoTokenizer, name, "roberta-base's tokenizer")
    special = fitting.cls_token_id, fitting.sep_token_id, fitting.pad_token_id
    if len(fitting) > vocabulary or special != (0, 2, 1):
        raise ConversionError(
            f"The tokenizer {name} does not fit: it has {len(fitting)} entries and <s>, </s> and <pad> at {special}, "
            f"the model {vocabulary} and (0, 2, 1). Pass --tokenizer with the model's own."
        )
    return fitting
