"""Checkpoints in the layout of the original, made from a model of ours (clipbert §12)."""

import re

import torch
from torch import Tensor

UNUSED_TABLE = "transformer.bert.visual_embeddings.position_embeddings.weight"


def original_layout(model: torch.nn.Module, dead_weights: bool = True) -> dict[str, Tensor]:
    """The model's tensors by the original's names, with the detector's heads and the unused table."""
    rules = (
        (r"clipbert\.cnn\.backbone", "cnn.feature.backbone"),
        (r"clipbert\.cnn\.grid_encoder", "cnn.grid_encoder.0"),
        (r"clipbert\.", "transformer.bert."),
        (r"(?=cls|classifier|regressor)", "transformer."),
    )
    renamed = {}
    for name, tensor in model.state_dict().items():
        pattern, start = next(rule for rule in rules if re.match(rule[0], name))
        renamed[re.sub(pattern, start, name, count=1)] = tensor.clone()
    if dead_weights:
        renamed["cnn.feature.roi_heads.box_head.fc1.weight"] = torch.ones(3, 2)
        renamed["cnn.feature.proposal_generator.rpn_head.conv.bias"] = torch.ones(2)
        renamed[UNUSED_TABLE] = torch.ones(24, 32)
    return renamed
