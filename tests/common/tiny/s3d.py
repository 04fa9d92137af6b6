"""An S3D small enough for tests: the real classes and the real tokenizer, nothing to download."""

import torch

from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DModel

SIDE = 32
WORDS = ["open", "door", "cut", "tomato", "don't", "the", "a", "pan"]


def tiny_config(**changed) -> S3DConfig:
    """Few channels, the published depth; clips of 4 frames."""
    return S3DConfig(
        stem_channels=[8, 16],
        block_channels=[[8, 8, 12, 4, 8, 4]] * 9,
        projection_dim=16,
        vocab_size=len(WORDS) + 1,
        word_embed_dim=6,
        text_hidden_size=12,
        max_words=5,
        **{"frames_per_clip": 4, "clips_per_chunk": 2, **changed},
    )


def random_statistics(model: torch.nn.Module) -> None:
    """Running statistics and weights of batch norms that change something, as after training."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.normal_(module.weight, 1, 0.1)
            torch.nn.init.normal_(module.bias, 0, 0.1)


def tiny_model(seed: int = 0, **changed) -> S3DModel:
    """In eval mode, every parameter random, so that one that is left out shows."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = S3DModel(tiny_config(**changed)).eval()
        random_statistics(model)
        for name, parameter in model.named_parameters():
            if "bn" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tiny_processor(**changed):
    """Of the same sizes as `tiny_model`."""
    from hf_videolang.models.s3d.processing_s3d import S3DProcessor
    from hf_videolang.models.s3d.tokenization_s3d import s3d_tokenizer
    from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor

    options = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    video_processor = S3DVideoProcessor(**{**options, "frames_per_clip": 4, **changed})
    return S3DProcessor(video_processor, s3d_tokenizer(WORDS, 5), max_length=5)


def tiny_inputs(batch: int = 2, clips: int = 3, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random bytes and words, aligned."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (batch, clips * 4, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    input_ids = torch.randint(0, len(WORDS) + 1, (batch, 5), generator=generator)
    return {"input_ids": input_ids, "pixel_values_videos": pixels}
