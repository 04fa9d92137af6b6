"""Models from which training starts: HERO with nothing but RoBERTa in it (hero §10)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from hf_videolang.conversion.hero.roberta import Roberta
from hf_videolang.conversion.hero.settings import (
    ROBERTA,
    load_roberta_tokenizer,
    name_features,
    read_config,
    vocabulary_size,
)
from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import Origin, TensorMap, as_is, map_tensors, untied_tensors
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.data.benchmarks.value_features import WIDTHS
from hf_videolang.models.hero.configuration_hero import HeroConfig
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval, HeroPreTrainedModel
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor

# Every head. That of statements is a part of multiple choice.
HEADS: list[type[HeroPreTrainedModel]] = [HeroForVideoTextRetrieval, HeroForMultipleChoice, HeroForVideoCaptioning]
MAX_FRAMES = 100  # rows of a video (hero §1)
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def start_from_roberta(
    roberta: Roberta,
    *,
    config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    features: str | None = None,
    video_feature_size: str | None = None,
    seed: int = 42,
) -> Conversion:
    """
    HERO as training starts it without HERO's pre-training. All that is not RoBERTa's is random.

    Arguments and errors as of [`convert`]; without `features`, they are resnet_slowfast.
    """
    model_config = start_config(roberta, config, features, video_feature_size)
    notes = name_features(model_config, features)
    kept = kept_layers(model_config)

    def origin(name: str) -> Origin | None:
        return roberta.origin(name.removeprefix("hero.").removeprefix("cross_modal_model."), kept)

    tensor_map = map_start(
        dict(roberta.values.values()), model_config, origin, lambda key: roberta.drop_reason(key, kept), seed
    )
    fitting = load_roberta_tokenizer(tokenizer or own_tokenizer(roberta.path, ROBERTA), vocabulary_size(model_config))
    processor = HeroProcessor(fitting, max_frames=model_config.max_frames, features=model_config.features)
    return Conversion(
        model_class=HEADS[0],
        further_classes=HEADS[1:],
        config=model_config,
        tensor_map=tensor_map,
        components=[processor, HeroForVideoCaptioning.published_decoding(model_config, processor.caption_tokenizer)],
        flavour="HERO before training, from RoBERTa",
        facts={"config": None if config is None else Path(config).name, "seed": seed},
        notes=notes,
        card={"training": f"None. RoBERTa gives {of_roberta(roberta, kept)}; all else is random, seed {seed}."},
    )


def start_config(
    roberta: Roberta, path: str | Path | None, features: str | None, width: str | None, **further: Any
) -> HeroConfig:
    """
    Widths and heads of the RoBERTa, layers of the released HERO, and what the authors' configuration says.

    Raises:
        ConversionError: these do not fit each other.
    """
    if features not in (None, "none", *WIDTHS):
        raise ConversionError(f"--features is {features!r}; expected none or one of {', '.join(WIDTHS)}.")
    fields = read_config(path)
    size = width or WIDTHS.get(features or "resnet_slowfast")
    if size is None:
        raise ConversionError("--features is none; give the width of a row as --video-feature-size.")
    for part, sizes in roberta.sizes().items():
        fields[part] = {**sizes, **fields.get(part, {})}
    positions = fields["temporal_config"].get("max_position_embeddings", MAX_FRAMES)
    fields["max_frames"] = min(MAX_FRAMES, positions)
    try:
        return HeroConfig(**fields, video_feature_size=int(size), **further, dtype="float32")
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise ConversionError(f"The RoBERTa and its config give no valid model: {error}") from error


def kept_layers(config: HeroConfig) -> int:
    part: Any = config.cross_modal_config
    return part.num_hidden_layers


def of_roberta(roberta: Roberta, kept: int) -> str:
    return f"{kept} of its {roberta.num_layers} layers, the embeddings and the head of the words"


def own_tokenizer(path: Path, otherwise: str) -> str | Path:
    """The folder of a checkpoint, if a tokenizer lies in it."""
    return path.parent if any((path.parent / name).exists() for name in TOKENIZER_FILES) else otherwise


def map_start(
    source: dict[str, Any],
    config: HeroConfig,
    origin: Callable[[str], Origin | None],
    drop_reason: Callable[[str], str | None],
    seed: int,
) -> TensorMap:
    """Every tensor of every head: from the source where `origin` knows it, else as HERO starts it."""
    targets = {name: value for head in HEADS for name, value in untied_tensors(head, config).items()}
    fresh = [name for name in targets if origin(name) is None]
    how = f"random as HERO starts it (hero §10), seed {seed}"
    created: dict[str, tuple[Tensor, str]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for head in HEADS:
            state = head(config).state_dict()
            created = {name: (state[name], how) for name in fresh if name in state} | created
    return map_tensors(source, targets, lambda name: origin(name) or (name, as_is), drop_reason, created)
