"""Cross-entropy against the hardest negatives."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .contrastive import scaled_similarities


def hard_negative_loss(video: Tensor, text: Tensor, num_negatives: int) -> Tensor:
    """
    Each match against the `num_negatives` most similar other columns of its row, summed over both directions.

    One direction is mean_i -log(exp(a_ii) / (exp(a_ii) + sum of exp(a_ij) over the largest a_ij with j != i)), where a
    are the plain cosines without a scale. Original: `HardNegLoss`, which the paper does not mention.

    Args:
        video, text: as in [`contrastive_loss`].
        num_negatives (`int`): negatives for each row and column, 1 to batch - 1.

    Raises:
        ValueError: `num_negatives` is out of range, or the shapes differ.
    """
    similarity = scaled_similarities(video, text, 0.0)
    if not 1 <= num_negatives < len(similarity):
        raise ValueError(
            f"num_negatives is {num_negatives} with a batch of {len(similarity)}; expected 1 to batch - 1. "
            "Use fewer negatives or a larger batch."
        )
    same_pair = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)

    def one_direction(scores: Tensor) -> Tensor:
        negatives = scores.masked_fill(same_pair, -torch.inf).topk(num_negatives, dim=1).values
        candidates = torch.cat([scores.diagonal()[:, None], negatives], dim=1)
        return cross_entropy(candidates, torch.zeros(len(scores), dtype=torch.long, device=scores.device))

    return one_direction(similarity) + one_direction(similarity.T)
