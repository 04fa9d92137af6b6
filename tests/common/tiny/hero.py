"""A HERO small enough for tests: the real classes, nothing to download."""

from string import ascii_lowercase

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, PreTrainedTokenizerFast

from hf_videolang.models.hero.configuration_hero import HeroConfig
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval, HeroPreTrainedModel

FEATURES, FRAMES = 16, 12
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = [*SPECIAL, *ascii_lowercase, *(f"w{number}" for number in range(30))]
PART = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tiny_config(**changed) -> HeroConfig:
    """Rows of 16 numbers, at most 12 of them."""
    parts = {
        "cross_modal_config": {**PART, "vocab_size": len(WORDS)},
        "temporal_config": PART,
        "query_config": PART,
    }
    return HeroConfig(**{**parts, "video_feature_size": FEATURES, "max_frames": FRAMES, **changed})


def tiny_model(model_class: type = HeroForVideoTextRetrieval, seed: int = 0, **changed) -> HeroPreTrainedModel:
    """In eval mode, every parameter random, so that one that is left out shows."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = model_class(tiny_config(**changed)).eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def word_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """Splits at spaces; the ids are the places in the list, which starts with the four special tokens."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", pad_token="<pad>", sep_token="</s>", unk_token="<unk>"
    )


CLIP_WORDS = ["!", *ascii_lowercase, *(f"w{number}" for number in range(30)), "<start>", "<end>"]


def tiny_text_config(**changed) -> CLIPTextConfig:
    """A CLIP text encoder of another width than HERO."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": len(CLIP_WORDS), "bos_token_id": len(CLIP_WORDS) - 2, "eos_token_id": len(CLIP_WORDS) - 1}
    return CLIPTextConfig(**{**sizes, **ids, "max_position_embeddings": 12, **changed})


def clip_tokenizer(words: list[str], longest: int = 12) -> PreTrainedTokenizerFast:
    """Splits at spaces, and puts the last two of the words around a text."""
    start, end = len(words) - 2, len(words) - 1
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[end]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(words[start], start), (words[end], end)]
    tokenizer.post_processor = processors.TemplateProcessing(f"{words[start]} $A {words[end]}", special_tokens=ends)
    named = {"bos_token": words[start], "eos_token": words[end], "unk_token": words[end], "pad_token": words[end]}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **named)


def tiny_clip_processor(**changed):
    """Of a tiny CLIP-Enhanced."""
    from hf_videolang.models.hero.processing_hero import HeroProcessor

    options = {"max_frames": FRAMES, "text_encoder": "clip", "caption_tokenizer": word_tokenizer(WORDS), **changed}
    return HeroProcessor(clip_tokenizer(CLIP_WORDS), **options)


def tiny_processor(**changed):
    """Of the same sizes as `tiny_model`."""
    from hf_videolang.models.hero.processing_hero import HeroProcessor

    return HeroProcessor(word_tokenizer(WORDS), **{"max_frames": FRAMES, **changed})


def tiny_videos(videos: int = 3, frames: int = 8, subtitles: int = 3, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random features and subtitles; all videos but the first are shorter, and each has a frame without subtitle."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(frames, frames - videos, -1).clamp(min=4)[:, None]
    mask = (torch.arange(frames) < lengths).long()
    shown = (torch.arange(frames) // 3).expand(videos, -1).clone()
    shown[:, 1] = -1
    tokens = torch.tensor([7, 3, 5])[:subtitles]
    subtitle_mask = (torch.arange(7) < tokens[:, None]).long().expand(videos, -1, -1)
    ids = torch.randint(4, len(WORDS), (videos, subtitles, 7), generator=generator)
    ids[..., 0] = 2
    return {
        "video_features": torch.randn(videos, frames, FEATURES, generator=generator),
        "video_attention_mask": mask,
        "subtitle_input_ids": torch.where(subtitle_mask == 1, ids, 1),
        "subtitle_attention_mask": subtitle_mask.clone(),
        "frame_subtitles": torch.where(mask == 1, shown, -1),
    }


def tiny_texts(*shape: int, length: int = 6, start: int = 0, seed: int = 2) -> dict[str, torch.Tensor]:
    """Random texts of mixed lengths, `[*shape, length]`."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, len(WORDS), (*shape, length), generator=generator)
    ids[..., 0] = start
    lengths = torch.randint(3, length + 1, shape, generator=generator)
    mask = (torch.arange(length) < lengths[..., None]).long()
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}
