"""S3D written as the table of s3d §1 reads: the reference for the results and the speed of the model."""

import torch
from torch.nn import functional as F

from hf_videolang.models.s3d.configuration_s3d import BLOCKS


def original_conv(x, conv, training):
    """Convolutions, each with batch norm and ReLU, one after the other."""
    for number in "12" if conv.separable else "1":
        layer, norm = getattr(conv, f"conv{number}"), getattr(conv, f"bn{number}")
        x = F.conv3d(x, layer.weight, padding=layer.padding)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training)
        x = F.relu(x)
    return x


def original_pool(x, kernel, stride):
    """Zeros around the input, front half rounded down; then pooling that rounds up (s3d §1)."""
    padding = []
    for k, s in reversed(list(zip(kernel, stride, strict=True))):
        total = max(k - s, 0)
        padding += [total // 2, total - total // 2]
    return F.max_pool3d(F.pad(x, padding), kernel, stride, ceil_mode=True)


def original_gating(x, gating):
    return x * torch.sigmoid(gating.fc(x.mean(dim=(2, 3, 4))))[:, :, None, None, None]


def original_network(model, clips, training=False):
    """[B, F, 3, H, W] in 0..1, by the table of s3d §1."""
    x = clips.transpose(1, 2)
    batch, _, frames, height, width = x.shape
    x = x.view(batch, 3, frames // 2, 2, height // 2, 2, width // 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    x = x.reshape(batch, 24, frames // 2, height // 2, width // 2)
    x = original_conv(F.pad(x, (2, 2, 2, 2, 1, 1)), model.conv1, training)[:, :, 1:, 1:, 1:]
    x = original_pool(x, (1, 3, 3), (1, 2, 2))
    x = original_conv(original_conv(x, model.conv_2b, training), model.conv_2c, training)
    x = original_pool(original_gating(x, model.gating), (1, 3, 3), (1, 2, 2))
    for name in BLOCKS:
        if name == "4b":
            x = original_pool(x, (3, 3, 3), (2, 2, 2))
        if name == "5b":
            x = original_pool(x, (2, 2, 2), (2, 2, 2))
        block = model.get_submodule(f"mixed_{name}")
        b1, b2 = (original_conv(x, getattr(block, f"conv_b{i}_a"), training) for i in (1, 2))
        branches = [
            original_conv(x, block.conv_b0, training),
            original_conv(b1, block.conv_b1_b, training),
            original_conv(b2, block.conv_b2_b, training),
            original_conv(F.max_pool3d(x, 3, stride=1, padding=1), block.conv_b3_b, training),
        ]
        gatings = [getattr(block, f"gating_b{i}") for i in range(4)]
        x = torch.cat([original_gating(b, g) for b, g in zip(branches, gatings, strict=True)], dim=1)
    return x.mean(dim=(2, 3, 4))
