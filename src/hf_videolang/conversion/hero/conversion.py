"""Conversion of HERO's checkpoints (hero §10)."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from hf_videolang.conversion.hero.layouts import ONE_HOTS, PADS, TIED, TRIANGLE, Layout, find_layout
from hf_videolang.conversion.hero.roberta import find_roberta
from hf_videolang.conversion.hero.settings import (
    ROBERTA,
    ROBERTA_VOCABULARY,
    load_roberta_tokenizer,
    name_features,
    read_config,
    vocabulary_size,
)
from hf_videolang.conversion.hero.starts import start_from_roberta
from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import map_tensors, new_layers, size_of, state_dict, untied_tensors
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError
from hf_videolang.data.benchmarks.value_features import WIDTHS
from hf_videolang.models.hero.configuration_hero import HeroConfig
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval, HeroModel, HeroPreTrainedModel
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice, HeroForSequenceClassification
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor

NAME = "HERO"
EXPECTED = "v_encoder.f_encoder.… and v_encoder.c_encoder.…"
ALSO_HARMLESS = ()
OPTIONS = {
    "features": "features that the model was trained on: a name of VALUE such as clip-vit_slowfast, or none",
    "video_feature_size": "another width of features; the layers that read them start at random",
    "from_roberta": "the file is RoBERTa's (pretrain-tv-init.bin, or a folder of roberta-base): start a HERO from it",
}
HEAD_WIDTH = 64
FEATURE_LAYER = re.compile("frame_embeddings|frame_transform")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the keys are those of HERO, or of the RoBERTa from which it starts."""
    values = state_dict(checkpoint)[0]
    return find_layout(values) is not None or find_roberta(values, checkpoint.path) is not None


def convert(
    checkpoint: Checkpoint,
    *,
    config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    features: str | None = None,
    video_feature_size: str | None = None,
    from_roberta: bool = False,
    seed: int = 42,
) -> Conversion:
    """
    Args:
        checkpoint: one that [`recognises`] accepts.
        config: the run's model configuration, a JSON with `f_config`, `c_config` and `q_config`, and perhaps
            `d_config`. It decides what shapes cannot: heads of another width than 64, dropouts, the activation.
        tokenizer: folder or Hub id of the tokenizer; by default RoBERTa's if the vocabulary is RoBERTa's. A model with
            another vocabulary and no tokenizer gets no processor.
        features: name of VALUE's features, or `"none"` if they are others. By default the only name of that width.
        video_feature_size: another width of features than the checkpoint's.
        from_roberta: make a HERO before its training of a RoBERTa for masked words.
        seed: of the layers that are new for another width, or beside RoBERTa's.

    Raises:
        ConversionError: the checkpoint, the config, the features or the tokenizer do not fit each other.
    """
    values, _ = state_dict(checkpoint)
    roberta, layout = find_roberta(values, checkpoint.path), find_layout(values)
    if (roberta is not None) != from_roberta:
        start, expected = "is no RoBERTa. Leave --from-roberta away", "is a RoBERTa. Start a HERO with --from-roberta"
        raise ConversionError(f"{checkpoint.path} {start if from_roberta else expected}.")
    if roberta is not None:
        return start_from_roberta(
            roberta,
            config=config,
            tokenizer=tokenizer,
            features=features,
            video_feature_size=video_feature_size,
            seed=seed,
        )
    assert layout is not None
    _check_constants(values)
    feature_size = None if video_feature_size is None else int(video_feature_size)
    model_config = _config(values, layout, config, feature_size)
    notes = name_features(model_config, features)
    classes = _classes(layout)
    targets = {name: value for one in classes for name, value in untied_tensors(one, model_config).items()}
    starts: list[type[HeroPreTrainedModel]] = []
    if not layout.captions and layout.words:
        starts = [HeroForVideoCaptioning]  # captioning begins with the words' head of pre-training
        tensors = untied_tensors(HeroForVideoCaptioning, model_config)
        targets |= {name: value for name, value in tensors.items() if name.startswith("lm_head.")}
    changed = []
    if video_feature_size is not None:  # the tensors whose shape depends on the width of the features
        sources = {name: values.get(layout.origin(name)[0]) for name in targets if FEATURE_LAYER.search(name)}
        changed = [name for name, one in sources.items() if one is not None and one.shape != targets[name].shape]
    created = new_layers(targets, changed, model_config.initializer_range, seed)
    replaced = dict.fromkeys((layout.origin(name)[0] for name in created), "new, for another width of features")
    training = f"By the authors; the checkpoint has {layout.flavour}."
    if created:
        new = "".join(f"\n- `{name}`: {how}" for name, (_, how) in created.items())
        training += f"\n\nNew, for another width of features, are:\n{new}"
    processor = _processor(model_config, layout, tokenizer)
    if not processor:
        notes.append(
            f"No processor was written: the vocabulary has {vocabulary_size(model_config)} entries, "
            f"RoBERTa's {ROBERTA_VOCABULARY}. Pass the model's tokenizer as --tokenizer."
        )
    return Conversion(
        model_class=classes[0],
        further_classes=classes[1:],
        starts=starts,
        config=model_config,
        tensor_map=map_tensors(
            values, targets, layout.origin, lambda key: replaced.get(key) or layout.drop_reason(key), created
        ),
        components=[
            *processor,
            *(
                HeroForVideoCaptioning.published_decoding(model_config, each.caption_tokenizer)
                for each in processor
                if layout.words
            ),
        ],
        flavour=f"HERO with {layout.flavour}",
        facts={"config": None if config is None else Path(config).name, "seed": seed if created else None},
        notes=notes,
        card={"training": training},
    )


def _check_constants(values: Mapping[str, Any]) -> None:
    """Dropping a constant or the second of a tied pair must lose nothing."""
    wrong = [key for key in PADS if key in values and values[key].any()]
    triangle = values.get(TRIANGLE)
    if triangle is not None and not torch.equal(triangle, torch.full_like(triangle, -10000.0).triu(1)):
        wrong.append(TRIANGLE)
    wrong += [key for key in ONE_HOTS if key in values and len(values[key].unique()) > 1]
    word, decoder = (values.get(key) for key in TIED)
    if word is not None and decoder is not None and not torch.equal(word, decoder):
        wrong.append(f"{TIED[1]}, which should equal {TIED[0]}")
    if wrong:
        raise ConversionError(f"These constants have other values than HERO's: {', '.join(wrong)}. Use the original.")


def _classes(layout: Layout) -> list[type[HeroPreTrainedModel]]:
    """The classes whose heads the checkpoint has."""
    found: list[type[HeroPreTrainedModel]] = []
    if layout.retrieval:
        found.append(HeroForVideoTextRetrieval)
    if layout.multiple_choice:
        found.append(HeroForMultipleChoice)
    elif layout.statements:
        found.append(HeroForSequenceClassification)
    if layout.captions:
        found.append(HeroForVideoCaptioning)
    return found or [HeroModel]


def _config(
    values: Mapping[str, Any], layout: Layout, path: str | Path | None, feature_size: int | None
) -> HeroConfig:
    parts = read_config(path)
    if parts.get("fusion", layout.fusion) != layout.fusion:
        raise ConversionError(
            f"{path} says fusion {parts['fusion']!r}, but the checkpoint has {layout.fusion!r}. Give the "
            "configuration that it was trained with."
        )

    size = partial(size_of, values)

    def layers(stem: str) -> int:
        return len({key.removeprefix(stem).split(".")[0] for key in values if key.startswith(stem)})

    cross, temporal, query = "v_encoder.f_encoder.", "v_encoder.c_encoder.", "q_feat_attn.query_pos_embed."
    shapes: dict[str, dict[str, int | None]] = {
        "cross_modal_config": {
            "vocab_size": size(f"{cross}embeddings.word_embeddings.weight", 0),
            "hidden_size": size(f"{cross}embeddings.word_embeddings.weight", 1),
            "type_vocab_size": size(f"{cross}embeddings.token_type_embeddings.weight", 0),
            "max_position_embeddings": size(f"{cross}embeddings.position_embeddings.weight", 0),
            "intermediate_size": size(f"{cross}encoder.layer.0.intermediate.dense.weight", 0),
            "num_hidden_layers": layers(f"{cross}encoder.layer."),
        },
        "temporal_config": {
            "hidden_size": size(f"{temporal}embeddings.position_embeddings.weight", 1),
            "max_position_embeddings": size(f"{temporal}embeddings.position_embeddings.weight", 0),
            "intermediate_size": size(f"{temporal}encoder.layer.0.intermediate.dense.weight", 0),
            "num_hidden_layers": layers(f"{temporal}encoder.layer."),
        },
        "query_config": {
            "hidden_size": size(f"{cross}embeddings.word_embeddings.weight", 1),
            "max_position_embeddings": size(f"{query}position_embeddings.weight", 0),
        },
    }
    if layers("decoder.layer."):
        shapes["decoder_config"] = {
            "hidden_size": size("position_embeddings.weight", 1),
            "max_position_embeddings": size("position_embeddings.weight", 0),
            "intermediate_size": size("decoder.layer.0.intermidiate.dense.weight", 0),
            "num_hidden_layers": layers("decoder.layer."),
        }
    fields: dict[str, Any] = {"fusion": layout.fusion}
    for part, found in shapes.items():
        known, stated = {name: value for name, value in found.items() if value is not None}, parts.get(part, {})
        both = stated.keys() & known.keys()
        differing = {name: (stated[name], known[name]) for name in both if stated[name] != known[name]}
        if differing:
            raise ConversionError(
                f"{path} says other sizes of {part} than the tensors have: {differing} (stated, found). Give the "
                "configuration that the checkpoint was trained with."
            )
        fields[part] = stated | known
        if "num_attention_heads" not in stated:
            fields[part]["num_attention_heads"] = max(known.get("hidden_size", HEAD_WIDTH) // HEAD_WIDTH, 1)
    width = size(f"{cross}img_embeddings.img_linear.weight", 1)
    frames = size(f"{cross}img_embeddings.position_embeddings.weight", 0)
    fields["video_feature_size"] = feature_size or width or WIDTHS["resnet_slowfast"]
    if frames is not None:
        fields["max_frames"] = frames
    for constant in (values[key] for key in ONE_HOTS if key in values):
        fields["label_smoothing"] = round(float(constant[0, 0]) * (constant.shape[1] - 1), 4)
    try:
        return HeroConfig(**fields, dtype="float32")
    except (StrictDataclassError, ValueError) as error:
        raise ConversionError(f"The checkpoint and its config give no valid model: {error}") from error


def _processor(config: HeroConfig, layout: Layout, tokenizer: str | Path | None) -> list[HeroProcessor]:
    vocabulary = vocabulary_size(config)
    if tokenizer is None and vocabulary not in range(ROBERTA_VOCABULARY, ROBERTA_VOCABULARY + 8):
        return []
    fitting = load_roberta_tokenizer(tokenizer or ROBERTA, vocabulary)
    only_captions = layout.captions and not (layout.retrieval or layout.statements)
    only_answers = layout.statements and not (layout.retrieval or layout.captions)
    context = 1 if only_captions else 2 if only_answers and not layout.multiple_choice else 0
    return [
        HeroProcessor(
            fitting,
            max_frames=config.max_frames,
            features=config.features,
            max_length=120 if only_answers else 60,
            context_subtitles=context,
        )
    ]
