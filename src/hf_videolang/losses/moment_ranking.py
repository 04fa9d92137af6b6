"""The ranking losses of moment retrieval: a query must match its video better than other videos and queries do."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

OTHERS_WEIGHT = 0.1  # of mismatches outside the hard pool


def moment_ranking_losses(
    scores: Tensor,
    video_index: Tensor,
    kind: Literal["hinge", "log_sum_exp"] = "hinge",
    margin: float = 0.1,
    hard_pool_size: int = 0,
    hard_negative_weight: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """
    For each query, the mean loss of its match against its mismatches (hero §3; `get_video_level_loss`).

    Args:
        scores (`Tensor` `[queries, videos]`): similarities, higher is better. In several processes, of the whole
            batch: pass the features through [`gather_features`] first.
        video_index (`Tensor` `[queries]`): the video of each query. A video may have any number of queries.
        kind, margin: `"hinge"` is max(0, margin + mismatch - match), `"log_sum_exp"` is log(1 + exp(mismatch -
            match)).
        hard_pool_size: how many of the highest mismatches weigh `hard_negative_weight`, while the others weigh 0.1.
            0 weighs all by 1.

    Returns:
        Two `Tensor`s `[queries]`: of the query against other videos, and of its video against queries of other
        videos. Both are 0 in a batch with one video.

    Example:
        >>> by_video, by_query = moment_ranking_losses(torch.eye(2), torch.arange(2))
        >>> (by_video.tolist(), by_query.tolist())
        ([0.0, 0.0], [0.0, 0.0])
    """
    match = scores.gather(1, video_index[:, None])
    videos = torch.arange(scores.shape[1], device=scores.device)
    other_videos = video_index[:, None] != videos
    other_queries = video_index[:, None] != video_index

    def mean_loss(mismatches: Tensor, counts: Tensor) -> Tensor:
        difference = mismatches - match
        loss = F.relu(margin + difference) if kind == "hinge" else F.softplus(difference)
        if hard_pool_size:
            rank = mismatches.masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
            loss = loss * torch.where(rank < hard_pool_size, hard_negative_weight, OTHERS_WEIGHT)
        return (loss * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)

    return mean_loss(scores, other_videos), mean_loss(scores[:, video_index].T, other_queries)
