"""A tiny ClipBERT for tests: the real classes and tokenizer class, nothing to download."""

import torch
from transformers import BertTokenizer

from hf_videolang.models.clipbert.configuration_clipbert import ClipBertConfig
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVideoTextRetrieval, ClipBertPreTrainedModel

IMAGE_SIZE = 128
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a the man woman dog plays guitar what is who how many nod clap spin ? . ,"


def tiny_tokenizer(max_length: int = 24) -> BertTokenizer:
    """Words of `WORDS`, and letters for all others."""
    letters = [prefix + letter for letter in "abcdefghijklmnopqrstuvwxyz" for prefix in ("", "##")]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys([*WORDS.split(), *letters]))}
    return BertTokenizer(vocab=vocabulary, model_max_length=max_length)


def tiny_config(**options) -> ClipBertConfig:
    """2 x 2 tokens a clip at 128 pixels, 2 layers, no dropout; `options` overrides fields."""
    sizes = {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 24,
        "max_grid_rows": 5,
        "max_grid_columns": 6,
        "stem_channels": 6,
        "bottleneck_channels": 4,
        "res2_channels": 8,
        "depths": [1, 2, 1, 1],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return ClipBertConfig(**{**sizes, **options})


def tiny_model(
    model_class: type[ClipBertPreTrainedModel] = ClipBertForVideoTextRetrieval, seed: int = 0, **options
) -> ClipBertPreTrainedModel:
    """In eval mode. Every parameter and buffer is random, so that one that is not used shows."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = model_class(tiny_config(**options)).eval()
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


def tiny_processor(max_length: int = 12, **options):
    """Gives frames of the size of `tiny_inputs`; `options` are those of the video processor."""
    from hf_videolang.models.clipbert.processing_clipbert import ClipBertProcessor
    from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor

    video_processor = ClipBertVideoProcessor(**{"size": {"longest_edge": IMAGE_SIZE}, **options})
    return ClipBertProcessor(video_processor, tiny_tokenizer(), max_length=max_length)


def tiny_inputs(batch: int = 2, clips: int = 2, frames: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random pixels and padded random texts, text i about video i."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 9, (batch,), generator=generator)
    mask = (torch.arange(10) < lengths[:, None]).long()
    return {
        "input_ids": torch.randint(5, 97, (batch, 10), generator=generator) * mask,
        "attention_mask": mask,
        "pixel_values_videos": torch.randn(batch, clips, frames, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) * 60,
    }
