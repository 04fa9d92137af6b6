"""Conversion of the checkpoints that lead to a CLIP-ViP (clip_vip §2)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from hf_videolang.conversion.clip_vip.config import ADDED_CLS, TEMPORAL_EMBEDDING, derive_config
from hf_videolang.conversion.clip_vip.layouts import CLIP4CLIP, INITIALISING, SEQUENCE_KEYS, Layout, find_layout
from hf_videolang.conversion.clip_vip.training_config import TrainingConfig, read_training_config
from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import TensorMap, map_tensors, model_tensors, state_dict
from hf_videolang.conversion.tokenizers import CLIP_FILES, load_tokenizer
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError
from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor

NAME = "CLIP-ViP"
EXPECTED = (
    "clipmodel.vision_model.… (CLIP-ViP), vision_model.… (CLIP on the Hub), visual.transformer.… (OpenAI's CLIP with "
    "a vision transformer), clip.visual.transformer.… (CLIP4Clip)"
)
ALSO_HARMLESS = ()
OPTIONS: dict[str, str] = {}
CLIP_TOKENIZER, CLIP_VOCABULARY = "openai/clip-vit-base-patch32", 49408


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the keys are those of a release that leads to a CLIP-ViP."""
    return find_layout(state_dict(checkpoint)[0]) is not None


def convert(
    checkpoint: Checkpoint, *, config: str | Path | None = None, tokenizer: str | Path | None = None, seed: int = 42
) -> Conversion:
    """
    Args:
        checkpoint: one that [`recognises`] accepts.
        config: the JSON that the checkpoint was trained with. It decides what shapes cannot: heads of another width
            than 64, a type other than "ViP", frames and text length of the processor. On the rest both must agree.
        tokenizer: folder or Hub id of a CLIP tokenizer; by default OpenAI's if the vocabulary has its 49408 entries. A
            model with another vocabulary and no tokenizer gets a video processor alone.
        seed: of the added proxies, when a CLIP becomes a CLIP-ViP.

    Raises:
        ConversionError: the checkpoint, the config or the tokenizer do not fit each other.
    """
    values, prefix = state_dict(checkpoint)
    layout = find_layout(values)
    assert layout is not None
    training_config = read_training_config(config, checkpoint.path)
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    model_config, decisions = derive_config(tensors, layout, training_config)
    tensor_map = _map(values, layout, model_config, seed)
    processor, notes = _processor(model_config, layout, training_config, tokenizer)
    start = "; ".join(f"`{name}` is {how}" for name, how in tensor_map.created.items())
    training = f"None beyond CLIP's. This is the state from which CLIP-ViP's post-pre-training starts: {start}."
    return Conversion(
        model_class=CLIPViPModel,
        config=model_config,
        tensor_map=tensor_map,
        components=[processor],
        flavour=layout.flavour,
        facts={
            "config": training_config.source,
            "prefix": prefix,
            "config_decisions": decisions,
            "seed": seed if tensor_map.created else None,
        },
        notes=notes,
        card={"training": training} if tensor_map.created else {},
    )


def _map(values: Mapping[str, Any], layout: Layout, config: CLIPViPConfig, seed: int) -> TensorMap:
    """Every tensor of the model from the source's. Where CLIP becomes CLIP-ViP, some are new (clip_vip §2)."""
    targets = model_tensors(CLIPViPModel, config)
    created = {}
    if layout.flavour in INITIALISING:
        scale = float(config.logit_scale_init_value)
        created["logit_scale"] = torch.tensor(scale), f"{scale}, the config's logit_scale_init_value"
        if ADDED_CLS in targets:
            noise = torch.randn(targets[ADDED_CLS].shape, generator=torch.Generator().manual_seed(seed))
            created[ADDED_CLS] = noise, f"standard normal, torch.randn with seed {seed}"
        if TEMPORAL_EMBEDDING in targets:
            created[TEMPORAL_EMBEDDING] = torch.zeros(targets[TEMPORAL_EMBEDDING].shape), "zeros"

    def drop_reason(key: str) -> str | None:
        if key == layout.origin("logit_scale")[0] and "logit_scale" in created:
            return f"CLIP-ViP starts from {scale} instead"
        if key == layout.origin(ADDED_CLS)[0] and not values[key].numel():
            return "empty (add_cls_num 0): the class token is the only proxy"
        if layout.flavour == CLIP4CLIP and key.startswith(SEQUENCE_KEYS):  # unused by the model, or it would be mapped
            return "mean pooling (sim_header meanP) does not use the transformer over frames"
        return layout.drop_reason(key)

    return map_tensors(values, targets, layout.origin, drop_reason, created)


def _processor(
    config: CLIPViPConfig, layout: Layout, training_config: TrainingConfig, tokenizer: str | Path | None
) -> tuple[CLIPViPProcessor | CLIPViPVideoProcessor, list[str]]:
    """The processor, or its video half if there is no tokenizer; and what the user should know about it."""
    vision: Any = config.vision_config
    text: Any = config.text_config
    square = {"height": vision.image_size, "width": vision.image_size}
    options: dict[str, Any] = {"size": square, "crop_size": square}
    if layout.flavour == CLIP4CLIP:  # CLIP's own rule, which CLIP4Clip keeps
        options |= {"size": {"shortest_edge": vision.image_size}, "do_center_crop": True, "antialias": True}
    num_frames = training_config.num_frames or vision.num_frames
    video_processor = CLIPViPVideoProcessor(num_frames=num_frames, **options)

    positions, vocabulary_size = text.max_position_embeddings, text.vocab_size
    max_length = training_config.max_length or positions
    if max_length > positions:
        raise ConversionError(
            f"{training_config.source} asks for texts of {max_length} tokens, the model has {positions} positions."
        )
    notes = []
    if training_config.num_frames is None or training_config.max_length is None:
        notes.append(
            f"The processor takes {num_frames} frames and {max_length} tokens. Pass the training JSON as --config if "
            "the model was trained with others (ActivityNet: 32 frames; most: 50 or 70 tokens)."
        )
    if tokenizer is None and vocabulary_size != CLIP_VOCABULARY:
        notes.append(
            f"No tokenizer and no text processor were written: the vocabulary has {vocabulary_size} entries, OpenAI's "
            f"tokenizer {CLIP_VOCABULARY}. Pass the model's own with --tokenizer."
        )
        return video_processor, notes
    fitting = _tokenizer(tokenizer or CLIP_TOKENIZER, vocabulary_size)
    fitting.model_max_length = positions
    return CLIPViPProcessor(video_processor, fitting, max_length=max_length), notes


def _tokenizer(name: str | Path, vocabulary_size: int) -> CLIPTokenizer:
    tokenizer = load_tokenizer(CLIPTokenizer, name, CLIP_FILES)
    end = tokenizer.eos_token_id
    if len(tokenizer) != vocabulary_size or end != vocabulary_size - 1:
        raise ConversionError(
            f"The tokenizer {name} does not fit: it has {len(tokenizer)} entries and ends texts with {end}, the model "
            f"has {vocabulary_size} and pools a text at {vocabulary_size - 1}. Pass --tokenizer with the model's own."
        )
    return tokenizer
