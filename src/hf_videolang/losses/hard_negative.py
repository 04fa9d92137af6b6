"""Cross-entropy against the hardest negatives only."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .contrastive import scaled_similarities


def hard_negative_loss(video: Tensor, text: Tensor, num_negatives: int) -> Tensor:
    """
    Each match against the `num_negatives` most similar other columns of its row, both directions summed.

    Sum over both directions of mean_i -log(exp(a_ii) / (exp(a_ii) + sum over the largest a_ij, j != i, of exp(a_ij))),
    a the bare cosines of a direction, without any scale. Original: `HardNegLoss`, which adds the directions up, as here;
    the paper does not have it.

    Args:
        video, text (`Tensor` `[batch, dim]`): L2-normalised; text i describes video i.
        num_negatives (`int`): negatives kept per row and per column, 1 to batch - 1; fewer are harder.

    Returns:
        `Tensor` without dimensions.

    Raises:
        ValueError: `num_negatives` out of range, or shapes that differ.
    """
    similarity = scaled_similarities(video, text, 0.0)
    if not 1 <= num_negatives < len(similarity):
        raise ValueError(
            f"num_negatives is {num_negatives} with a batch of {len(similarity)}; expected 1 to batch - 1. "
            "Take fewer negatives or a larger batch."
        )
    same_pair = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)

    def one_direction(scores: Tensor) -> Tensor:
        negatives = scores.masked_fill(same_pair, -torch.inf).topk(num_negatives, dim=1).values
        candidates = torch.cat([scores.diagonal()[:, None], negatives], dim=1)
        return cross_entropy(candidates, torch.zeros(len(scores), dtype=torch.long, device=scores.device))

    return one_direction(similarity) + one_direction(similarity.T)
