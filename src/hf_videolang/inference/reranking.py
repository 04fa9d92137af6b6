"""The videos that match a sentence best, by a model that reads text and video together."""

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def rerank(model: Any, processor: Any, text: str, videos: Sequence[Any], top_k: int = 5) -> list[tuple[Any, float]]:
    """
    Order videos by how well they match a text. A two-tower model finds them faster; this reads each one again.

    Args:
        model: a pair scorer in evaluation mode, see `hf_videolang.evaluation.pair_scoring`.
        processor: of the model.
        text: a sentence.
        videos: paths and whatever else the processor takes. They are decoded one by one.
        top_k (defaults to 5): how many to return.

    Returns:
        The best videos with the probability of a match, the best first.

    Raises:
        VideoDecodingError: a video cannot be read.

    Example:
        >>> model, processor = load_model_and_processor("runs/clipbert")
        >>> rerank(model, processor, "a dog digs", ["garden.mp4", "kitchen.mp4", "beach.webm"], top_k=2)
        [('garden.mp4', 0.94), ('beach.webm', 0.21)]
    """
    inputs = processor(text=text, return_tensors="pt")
    prepared = model.prepare_texts(inputs["input_ids"][inputs["attention_mask"].bool()][None].to(model.device))
    scores = []
    for video in videos:
        pixels = processor(videos=[video], return_tensors="pt")["pixel_values_videos"]
        scores.append(model.score_pairs(model.prepare_videos(pixels.to(model.device)), prepared))
    best = torch.cat(scores).sort(descending=True, stable=True)
    ranked = zip(best.indices.tolist(), best.values.sigmoid().tolist())
    return [(videos[number], probability) for number, probability in ranked][:top_k]
