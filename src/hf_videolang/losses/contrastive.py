"""The contrastive loss in both directions (InfoNCE) with a learned or a fixed temperature."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Directions = Literal["both", "text_to_video", "video_to_text"]


def scaled_similarities(first: Tensor, second: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    `exp(logit_scale) * first @ second.T`, `[batch, batch]`, in float32.

    The features are scaled, because they are smaller than the matrix. Autocast is switched off, because the step
    between two bfloat16 numbers near 100 is 0.5.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"features have shapes {list(first.shape)} and {list(second.shape)}; expected two of [batch, dim], "
            "row i of one paired with row i of the other. Give every video exactly one text in a batch."
        )
    dtype = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        scale = torch.as_tensor(logit_scale).to(dtype).exp()
        return (scale * first.to(dtype)) @ second.to(dtype).T


def matching_cross_entropy(logits: Tensor) -> Tensor:
    """Mean over rows of -log softmax(row i)[i]: column i matches row i (CE in clip_vip §3)."""
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def contrastive_loss(
    video: Tensor, text: Tensor, logit_scale: Tensor | float, directions: Directions = "both"
) -> Tensor:
    """
    Each video against all texts of the batch, plus each text against all videos. All fine-tuning uses it.

    `CE(s V T') + CE(s T V')` with `s = exp(logit_scale)`. It is the **sum** of both directions as in the authors'
    code; the paper averages them. Equal texts or videos in a batch are ordinary negatives. Pass the features of all
    processes (`gather_features`): gradient accumulation adds no negatives.

    Original: `NCELearnableTempLoss`. For `NCEContrastiveLoss` with a fixed temperature t, pass
    `logit_scale=-math.log(t)`.

    Args:
        video, text (`Tensor` `[batch, dim]`): L2-normalised; text i describes video i.
        logit_scale (`Tensor` or `float`): log of the factor on the cosine, the model's `logit_scale`. 0 compares the
            dot products as they are.
        directions (`str`, defaults to `"both"`): `"text_to_video"` keeps each text against all videos,
            `"video_to_text"` each video against all texts (videoclip §5.1).

    Returns:
        `Tensor` without dimensions.

    Raises:
        ValueError: the shapes differ or are not `[batch, dim]`.

    Example:
        >>> loss = contrastive_loss(outputs.video_embeds, outputs.text_embeds, model.logit_scale)
    """
    logits = scaled_similarities(video, text, logit_scale)  # its columns are the other direction
    match directions:
        case "video_to_text":
            return matching_cross_entropy(logits)
        case "text_to_video":
            return matching_cross_entropy(logits.T)
    return matching_cross_entropy(logits) + matching_cross_entropy(logits.T)
