"""A SlowFast small enough for tests: the real classes, nothing to download."""

import torch

from hf_videolang.models.slowfast.configuration_slowfast import SlowFastConfig
from hf_videolang.models.slowfast.modeling_slowfast import SlowFastForVideoClassification
from hf_videolang.models.slowfast.video_processing_slowfast import SlowFastVideoProcessor

SIDE = 32


def tiny_config(**changed) -> SlowFastConfig:
    """Few channels and blocks, clips of 8 frames."""
    return SlowFastConfig(
        **{"stem_channels": [8, 2], "depths": [1, 2, 1, 1], "num_frames": 8, "num_labels": 5} | changed
    )


def tiny_model(seed: int = 0, **changed) -> SlowFastForVideoClassification:
    """In eval mode, with statistics and weights of batch norms that change something, as after training."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = SlowFastForVideoClassification(tiny_config(**changed)).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                torch.nn.init.normal_(module.weight, 1, 0.1)
                torch.nn.init.normal_(module.bias, 0, 0.1)
    return model


def tiny_processor(**changed) -> SlowFastVideoProcessor:
    """Of the same sizes as `tiny_model`."""
    options = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, "num_frames": 8}
    return SlowFastVideoProcessor(**{**options, **changed})


def tiny_inputs(batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random pixels."""
    generator = torch.Generator().manual_seed(seed)
    return {"pixel_values_videos": torch.randn(batch, 8, 3, SIDE, SIDE, generator=generator)}
