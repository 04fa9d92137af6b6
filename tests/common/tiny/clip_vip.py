"""A tiny CLIP-ViP for tests: the real classes and tokenizer class, nothing to download."""

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from hf_videolang.models.clip_vip.configuration_clip_vip import CLIPViPConfig
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel

IMAGE_SIZE = 32
NUM_FRAMES = 4


def tiny_tokenizer(max_length: int = 77) -> CLIPTokenizer:
    """CLIP's tokenizer without merges: 256 byte symbols, the same at a word's end, start (512) and end (513)."""
    symbols = sorted(ByteLevel.alphabet())
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=max_length)


def tiny_config(**vision) -> CLIPViPConfig:
    """32-pixel frames in 8-pixel patches, 4 frames, 3 blocks; `vision` overrides fields of the video tower."""
    return CLIPViPConfig(
        projection_dim=32,
        text_config={
            "vocab_size": 514,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "pad_token_id": 513,
            "bos_token_id": 512,
            "eos_token_id": 513,
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
            "num_frames": NUM_FRAMES,
            **vision,
        },
    )


def tiny_model(seed: int = 0, **vision) -> CLIPViPModel:
    """In eval mode. Every parameter is random, so that one that is not used shows."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = CLIPViPModel(tiny_config(**vision)).eval()
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tiny_processor(max_length: int = 77):
    """Gives frames of the size and number of `tiny_model`."""
    from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
    from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor

    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    video_processor = CLIPViPVideoProcessor(size=size, num_frames=NUM_FRAMES)
    return CLIPViPProcessor(video_processor, tiny_tokenizer(max_length), max_length=max_length)


def tiny_inputs(batch: int = 2, frames: int = NUM_FRAMES, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random pixels and padded random texts, aligned."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(0, 512, (batch, 10), generator=generator)
    input_ids[:, 0] = 512
    lengths = torch.randint(5, 10, (batch,), generator=generator)
    positions = torch.arange(10)[None]
    input_ids[positions >= lengths[:, None]] = 513
    return {
        "input_ids": input_ids,
        "attention_mask": (positions <= lengths[:, None]).long(),
        "pixel_values_videos": torch.randn(batch, frames, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
    }
