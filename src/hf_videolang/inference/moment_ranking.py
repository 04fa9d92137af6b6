"""Finds the moments of a corpus of videos that queries mean (hero §9)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_videolang.metrics.moments import suppress_overlaps, top_moments

QUERIES_AT_ONCE = 64  # bounds the memory: their similarities with every frame of the corpus


@dataclass(frozen=True)
class MomentRanking:
    """
    How the moments of a corpus are ranked.

    Args:
        seconds_per_frame: time between two rows of features.
        min_frames, max_frames: as in [`top_moments`].
        score_scale: a video weighs the exponential of its score times this.
        max_videos: how many of the best videos are searched for moments.
        max_predictions: how many moments and videos are returned. Twice as many moments are ranked first.
        nms_threshold: the IoU above which a moment is left out in favour of a better one; `None` keeps all.
        legacy_length: reproduces a fault of the original, which reads the places of the moments as if every video had
            this many frames (hero §9.2). `None` reads them right.
    """

    seconds_per_frame: float = 1.5
    min_frames: int = 2
    max_frames: int = 16
    score_scale: float = 20.0
    max_videos: int = 100
    max_predictions: int = 100
    nms_threshold: float | None = None
    legacy_length: int | None = None

    @classmethod
    def of(cls, processor: Any, **options: Any) -> "MomentRanking":
        """With the lengths and the scale that a processor has."""
        return cls(
            seconds_per_frame=processor.seconds_per_feature,
            min_frames=processor.min_moment_frames,
            max_frames=processor.max_moment_frames,
            score_scale=processor.video_score_scale,
            **options,
        )


@dataclass(frozen=True)
class FoundMoments:
    """
    What a query finds.

    Args:
        videos: numbers of the searched videos in the corpus, best first.
        moments: `[video, start, end, score]` in seconds, best first.
        own_moments: the same within the query's own video.
    """

    videos: list[int]
    moments: list[list[Any]]
    own_moments: list[list[Any]]


@torch.inference_mode()
def find_moments(
    model: Any,
    text_embeds: Tensor,
    frame_embeds: Tensor,
    video_attention_mask: Tensor,
    own_video: Tensor,
    ranking: MomentRanking,
) -> Iterator[FoundMoments]:
    """
    Rank videos and moments for each query. The spans of the best videos alone are computed, a few queries at a time.

    Args:
        model: has `video_scores`, `frame_similarity` and `span_logits`.
        text_embeds: [queries, width].
        frame_embeds, video_attention_mask: [videos, frames, width] and [videos, frames] of the corpus.
        own_video: [queries], number of the video that each query is about.
        ranking: the rules.
    """
    for start in range(0, len(text_embeds), QUERIES_AT_ONCE):
        queries, own = text_embeds[start : start + QUERIES_AT_ONCE], own_video[start : start + QUERIES_AT_ONCE]
        scores = model.video_scores(queries, frame_embeds, video_attention_mask).float()
        best, videos = scores.sort(dim=1, descending=True)
        kept = videos[:, : ranking.max_videos]
        similarity = model.frame_similarity(queries, frame_embeds)
        rows = torch.arange(len(queries), device=queries.device)[:, None]
        weights = (ranking.score_scale * best[:, : ranking.max_videos]).exp()
        found = _top(model, similarity[rows, kept], video_attention_mask[kept], weights, ranking)
        owned = _top(model, similarity[rows, own[:, None]], video_attention_mask[own[:, None]], None, ranking)
        for query in range(len(queries)):
            yield FoundMoments(
                videos=kept[query, : ranking.max_predictions].tolist(),
                moments=_in_seconds(found, query, kept[query].tolist(), ranking),
                own_moments=_in_seconds(owned, query, own[query : query + 1].tolist(), ranking),
            )


def _top(model: Any, similarity: Tensor, mask: Tensor, weights: Tensor | None, ranking: MomentRanking) -> list[Tensor]:
    starts, ends = (logits.float().softmax(dim=-1) for logits in model.span_logits(similarity, mask))
    bounds, frames = (ranking.min_frames, ranking.max_frames), starts.shape[-1]
    video, first, last, score = top_moments(starts, ends, weights, *bounds, 2 * ranking.max_predictions)
    if ranking.legacy_length is not None and weights is not None:
        place = (video * frames + first) * frames + last
        last, place = place % ranking.legacy_length, place // ranking.legacy_length
        first, video = place % ranking.legacy_length, place // ranking.legacy_length
    return [video, first, last, score]


def _in_seconds(found: list[Tensor], query: int, videos: list[int], ranking: MomentRanking) -> list[list[Any]]:
    seconds = ranking.seconds_per_frame
    moments = [
        [videos[video], first * seconds, (last + 1) * seconds, score]
        for video, first, last, score in zip(*(column[query].tolist() for column in found))
        if score > 0
    ][: ranking.max_predictions]
    return moments if ranking.nms_threshold is None else suppress_overlaps(moments, ranking.nms_threshold)
