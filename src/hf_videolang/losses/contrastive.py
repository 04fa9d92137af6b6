"""The contrastive loss of both directions (InfoNCE, NCE) with a learnable or a fixed temperature."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def scaled_similarities(first: Tensor, second: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    `exp(logit_scale) * first @ second.T`, in float32 also under autocast: bfloat16 resolves only 0.5 at a logit of 100.

    Args:
        first, second (`Tensor` `[batch, dim]`): L2-normalised features of equal shape; row i of one belongs to row i
            of the other.
        logit_scale (`Tensor` or `float`): log of the factor on the cosine, the model's raw parameter.

    Returns:
        `Tensor` `[batch, batch]`, rows `first`, columns `second`.

    Raises:
        ValueError: the shapes differ or are not `[batch, dim]`.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"features have shapes {list(first.shape)} and {list(second.shape)}; expected two of [batch, dim], "
            "row i of one paired with row i of the other. Give every video exactly one text in a batch."
        )
    dtype = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        scale = torch.as_tensor(logit_scale).to(dtype).exp()
        return scale * (first.to(dtype) @ second.to(dtype).T)


def matching_cross_entropy(logits: Tensor) -> Tensor:
    """Mean over rows i of -log softmax(row i)[i]: the match of row i is column i (CE of clip_vip §3)."""
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def contrastive_loss(video: Tensor, text: Tensor, logit_scale: Tensor | float) -> Tensor:
    """
    Every video against all texts of the batch plus every text against all videos; the loss of all fine-tuning.

    `CE(s V T') + CE(s T V')` with `s = exp(logit_scale)`. It is the **sum** of both directions, as in the authors'
    code, hence twice the average that the paper writes. Identical texts or videos in a batch are ordinary negatives.
    Call it on features of all processes (`gather_features`), so that the whole batch gives the negatives; gradient
    accumulation does not enlarge that set.

    Original: `NCELearnableTempLoss`. For a fixed temperature t (`NCEContrastiveLoss`, `CE(V T' / t) + CE(T V' / t)`)
    pass the number `logit_scale=-math.log(t)`.

    Args:
        video, text (`Tensor` `[batch, dim]`): L2-normalised; text i describes video i.
        logit_scale (`Tensor` or `float`): log of the factor on the cosine (the model's `logit_scale`), not its exp.

    Returns:
        `Tensor` without dimensions.

    Raises:
        ValueError: the shapes differ or are not `[batch, dim]`.
    """
    video_to_text = scaled_similarities(video, text, logit_scale)
    text_to_video = scaled_similarities(text, video, logit_scale)
    return matching_cross_entropy(video_to_text) + matching_cross_entropy(text_to_video)
