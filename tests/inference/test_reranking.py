"""`rerank` in Python, on real files."""

import pytest
import torch

from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.inference.reranking import rerank


@torch.no_grad()
def test_videos_come_in_the_order_of_their_probability(tiny_run, tiny_pairs):
    model, processor = load_model_and_processor(tiny_pairs)
    videos = sorted((tiny_run / "videos" / "test").glob("*.mp4"))
    found = rerank(model, processor, "a dog plays", videos, top_k=3)
    alone = {video: model(**processor(videos=video, text="a dog plays")).scores.item() for video in videos}
    assert [video for video, _ in found] == sorted(videos, key=alone.get, reverse=True)[:3]
    assert [score for _, score in found] == pytest.approx([alone[video] for video, _ in found], abs=1e-6)
