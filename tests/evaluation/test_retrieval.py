"""Encoding and scoring: literal matrices, and batches as several processes would give them."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers.utils import ModelOutput

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.evaluation.retrieval import (
    PairEmbeddings,
    RetrievalEvaluator,
    encode_pairs,
    sample_querybank,
    score_similarity,
)
from hf_videolang.evaluation.scores import flat_scores
from hf_videolang.hub.loading import load_model_and_processor

SIMILARITY = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.4], [0.5, 0.6, 0.7], [0.1, 0.8, 0.2]])
LABELS = torch.tensor([0, 0, 1, 2])


class Echo(nn.Module):
    """Embeds an item as its own number, so that a misplaced row shows."""

    def forward(self, videos, texts):
        return ModelOutput(
            video_embeds=videos[:, None] + torch.tensor([0.0, 100]),
            text_embeds=texts[:, None] * torch.tensor([2.0, 0]),
        )


def batch(videos, captions, broken=0):
    """captions: pairs (number of the caption, its video)."""
    numbers, of_video = (torch.tensor(column) for column in zip(*captions))
    return {
        "videos": torch.tensor(videos, dtype=torch.float32),
        "texts": numbers.float(),
        "video_index": torch.tensor(videos),
        "caption_index": numbers,
        "caption_video_index": of_video,
        "num_broken_videos": torch.tensor([broken]),
    }


CAPTIONS = {"captions": [["a"], ["b", "c", "d"], ["e"]]}


def test_items_that_come_twice_or_out_of_order_are_kept_once():
    batches = [batch([2, 0], [(4, 2), (0, 0)]), batch([1, 0], [(1, 1), (2, 1), (3, 1), (0, 0)])]
    pairs = encode_pairs(Echo(), batches, CAPTIONS, Accelerator(cpu=True))
    assert pairs.video_embeds.tolist() == [[0, 100], [1, 101], [2, 102]]
    assert pairs.text_embeds[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert pairs.labels.tolist() == [0, 1, 1, 1, 2] and pairs.rows == [0, 1, 2]


def test_model_that_writes_every_batch_to_the_same_place():
    """As a CUDA graph does."""

    class Graph(Echo):
        def forward(self, videos, texts):
            output = super().forward(videos, texts)
            self.kept = getattr(self, "kept", output)
            return ModelOutput({name: self.kept[name].copy_(value) for name, value in output.items()})

    batches = [batch([0], [(0, 0)]), batch([1], [(1, 1)])]
    pairs = encode_pairs(Graph(), batches, {"captions": [["a"], ["b"]]}, Accelerator(cpu=True))
    assert pairs.video_embeds.tolist() == [[0, 100], [1, 101]] and pairs.text_embeds[:, 0].tolist() == [0, 2]


def test_the_same_words_are_the_same_vector():
    captions = {"captions": [["a", "b"], ["b"], ["a"]]}
    batches = [batch([0], [(0, 0), (1, 0)]), batch([1, 2], [(2, 1), (3, 2)])]
    pairs = encode_pairs(Echo(), batches, captions, Accelerator(cpu=True))
    assert pairs.text_embeds[:, 0].tolist() == [0, 2, 2, 0]
    assert torch.equal(pairs.similarity[0], pairs.similarity[3]) and pairs.similarity[:, 1].tolist() == [
        0,
        2,
        2,
        0,
    ]


def test_the_same_words_tie_in_every_matrix():
    """A matrix product may round the last row differently from the first."""
    torch.manual_seed(0)
    texts, videos = torch.randn(10, 512), torch.randn(57, 512)
    texts[-1] = texts[0]
    to_others = PairEmbeddings(torch.eye(1), texts, torch.zeros(10), [0]).similarity_to(videos)
    assert torch.equal(to_others[0], to_others[-1])
    torch.testing.assert_close(to_others, texts @ videos.T, atol=1e-4, rtol=0)


def test_a_batch_of_broken_videos_adds_nothing():
    stand_in = batch([7], [(7, 7)], broken=1)
    for name in ("video_index", "caption_index", "caption_video_index"):
        stand_in[name] = stand_in[name][:0]
    pairs = encode_pairs(Echo(), [batch([0, 2], [(0, 0), (4, 2)]), stand_in], CAPTIONS, Accelerator(cpu=True))
    assert pairs.video_embeds[:, 0].tolist() == [0, 2] and pairs.rows == [0, 2]
    with pytest.raises(ValueError, match="none of the 3 videos decodes"):
        encode_pairs(Echo(), [stand_in], CAPTIONS, Accelerator(cpu=True))


def test_skipped_videos_leave_with_their_captions():
    batches = [batch([0, 2], [(0, 0), (4, 2)], broken=1)]
    pairs = encode_pairs(Echo(), batches, CAPTIONS, Accelerator(cpu=True))
    assert pairs.video_embeds[:, 0].tolist() == [0, 2] and pairs.labels.tolist() == [0, 1]
    assert pairs.text_embeds[:, 0].tolist() == [0, 8] and pairs.rows == [0, 2]


def test_a_lost_item_is_an_error():
    with pytest.raises(RuntimeError, match="1 of 3 videos and 3 of 5 captions"):
        encode_pairs(Echo(), [batch([0, 2], [(0, 0), (4, 2)])], CAPTIONS, Accelerator(cpu=True))


def test_scores_of_a_literal_matrix():
    scores = score_similarity(SIMILARITY, LABELS)
    # text to video: ranks 1, 3, 2, 2; video to text: the best own caption of each video has rank 1, 2, 3
    assert scores["raw"]["text_to_video"] == {"R1": 0.25, "R5": 1.0, "R10": 1.0, "MedianR": 2.0, "MeanR": 2.0}
    assert scores["raw"]["video_to_text"]["R1"] == pytest.approx(1 / 3)
    assert scores["raw"]["video_to_text"]["MeanR"] == 2.0
    assert set(scores) == {"raw", "DSL", "chance"}
    assert scores["chance"]["text_to_video"] == pytest.approx(
        {"R1": 1 / 3, "R5": 1.0, "R10": 1.0, "MedianR": 2.0, "MeanR": 2.0}
    )


def test_scores_that_are_no_cosines_stay_raw():
    scores = score_similarity(100 * SIMILARITY, LABELS, is_cosine=False)
    expected = score_similarity(SIMILARITY, LABELS)
    assert scores == {name: expected[name] for name in ("raw", "chance")}


def test_each_direction_of_qb_norm_uses_its_own_bank():
    # One hub video (0) that the bank likes, one hub text (3).
    similarity = torch.tensor([[0.5, 0.4], [0.46, 0.45], [0.1, 0.2], [0.6, 0.6]])
    labels = torch.tensor([0, 1, 1, 0])
    text_bank = torch.tensor([[0.9, 0.1], [0.8, 0.1]])
    video_bank = torch.tensor([[0.1, 0.1, 0.1, 0.9]])
    scores = score_similarity(similarity, labels, "average", text_bank, video_bank)["QB-Norm"]
    assert (
        scores["text_to_video"]["R1"] == 0.5
    )  # texts 0, 1 and 3 move from the hub to video 1; text 2 is there already
    assert scores["video_to_text"]["R1"] == 1.0  # text 3, best for both videos in the raw scores, is lowered


def test_the_evaluator_scores_what_the_model_embeds(tiny_run):
    dataset, _ = load_dataset("videofolder", tiny_run / "videos", "test")
    training, _ = load_dataset("videofolder", tiny_run / "videos", "train")
    model, processor = load_model_and_processor(tiny_run / "model")
    bank = sample_querybank(training, dataset, 3)
    assert bank["video_id"] == [training["video_id"][row] for row in (0, 10, 21)]
    evaluator = RetrievalEvaluator(processor, batch_size=2, num_workers=1, ties="average", querybank=bank)
    seen = []

    def progress(loader):
        for batch in loader:
            seen.append(len(batch["video_index"]))
            yield batch

    scores = evaluator(model, dataset, Accelerator(cpu=True), progress)
    assert seen == [2, 2, 1, 2, 1]  # the test videos, then the bank
    with torch.no_grad():
        texts = processor(text=[text for texts in dataset["captions"] for text in texts], return_tensors="pt")
        videos = processor(videos=[video["path"] for video in dataset["video"]], return_tensors="pt")
        bank_videos = processor(videos=[video["path"] for video in bank["video"]], return_tensors="pt")
        embeds = model(**texts, **videos)
        bank_embeds = model(**texts, **bank_videos)
    similarity = embeds.text_embeds @ embeds.video_embeds.T
    torch.testing.assert_close(evaluator.tensors["similarity"], similarity, atol=1e-6, rtol=0)
    video_bank = bank_embeds.video_embeds @ embeds.text_embeds.T
    torch.testing.assert_close(evaluator.tensors["video_bank"], video_bank, atol=1e-6, rtol=0)
    assert evaluator.tensors["labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert evaluator.tensors["text_bank"].shape == (6, 5)
    assert scores == score_similarity(**evaluator.tensors, ties="average")
    assert set(flat_scores(scores)) == set(evaluator.metric_names()) and "QB-Norm" in scores
    assert evaluator.settings == {**processor.input_protocol(), "ties": "average"}
