"""The triplet ranking loss: a match must beat every mismatch by a margin."""

from typing import Literal

import torch
from torch import Tensor

from .contrastive import scaled_similarities


def ranking_loss(
    video: Tensor,
    text: Tensor,
    margin: float = 0.2,
    measure: Literal["cosine", "order"] = "cosine",
    max_violation: bool = False,
) -> Tensor:
    """
    The sum over i and j != i of

    max(0, margin + sim(v_i, t_j) - sim(v_i, t_i)) + max(0, margin + sim(v_j, t_i) - sim(v_i, t_i)).

    Original: `TripletContrastiveLoss`, the loss of VSE++. The CLIP-ViP paper does not mention it.

    Args:
        video, text: as in [`contrastive_loss`].
        margin (`float`, defaults to 0.2): a match that is better by this much costs nothing.
        measure (`str`, defaults to `"cosine"`): the similarity. `"order"` is minus the norm of max(0, text - video),
            as in order embeddings; it needs batch² × dim memory.
        max_violation (`bool`, defaults to `False`): count only the worst mismatch of each video and of each text.

    Returns:
        `Tensor` without dimensions: a sum, which grows with the batch.

    Raises:
        ValueError: `measure` is unknown, or the shapes differ.
    """
    similarity = scaled_similarities(video, text, 0.0)
    if measure == "order":
        similarity = -torch.linalg.vector_norm((text[None] - video[:, None]).clamp(min=0), dim=-1)
    elif measure != "cosine":
        raise ValueError(f"measure is {measure!r}; expected 'cosine' or 'order'.")
    match = similarity.diagonal()
    same_pair = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    over_texts = (margin + similarity - match[:, None]).clamp(min=0).masked_fill(same_pair, 0)
    over_videos = (margin + similarity - match[None, :]).clamp(min=0).masked_fill(same_pair, 0)
    if max_violation:
        return over_texts.max(dim=1).values.sum() + over_videos.max(dim=0).values.sum()
    return over_texts.sum() + over_videos.sum()
