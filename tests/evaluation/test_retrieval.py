"""Encoding and scoring: literal matrices, and a stand-in for several processes that pads and repeats."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers.utils import ModelOutput

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.evaluation.retrieval import (
    PairEmbeddings,
    encode_pairs,
    evaluation_loader,
    flat_metrics,
    protocol_line,
    score_similarity,
    score_table,
)
from hf_videolang.hub.loading import load_model_and_processor

SIMILARITY = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.4], [0.5, 0.6, 0.7], [0.1, 0.8, 0.2]])
LABELS = torch.tensor([0, 0, 1, 2])


class Echo(nn.Module):
    """Embeds an item as its own number, so that a row at the wrong place shows."""

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
    assert pairs.labels.tolist() == [0, 1, 1, 1, 2] and pairs.num_broken_videos == 0


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
    """A product of matrices may round the last row otherwise than the first."""
    torch.manual_seed(0)
    texts, videos = torch.randn(10, 512), torch.randn(57, 512)
    texts[-1] = texts[0]
    to_others = PairEmbeddings(torch.eye(1), texts, torch.zeros(10)).similarity_to(videos)
    assert torch.equal(to_others[0], to_others[-1])
    torch.testing.assert_close(to_others, texts @ videos.T, atol=1e-4, rtol=0)


def test_a_stand_in_for_a_batch_of_broken_videos_leaves_nothing():
    stand_in = batch([7], [(7, 7)], broken=1)
    for name in ("video_index", "caption_index", "caption_video_index"):
        stand_in[name] = stand_in[name][:0]
    pairs = encode_pairs(Echo(), [batch([0, 2], [(0, 0), (4, 2)]), stand_in], CAPTIONS, Accelerator(cpu=True))
    assert pairs.video_embeds[:, 0].tolist() == [0, 2] and pairs.num_broken_videos == 1
    with pytest.raises(ValueError, match="none of the 3 videos decodes"):
        encode_pairs(Echo(), [stand_in], CAPTIONS, Accelerator(cpu=True))


def test_skipped_videos_leave_with_their_captions():
    batches = [batch([0, 2], [(0, 0), (4, 2)], broken=1)]
    pairs = encode_pairs(Echo(), batches, CAPTIONS, Accelerator(cpu=True))
    assert pairs.video_embeds[:, 0].tolist() == [0, 2] and pairs.labels.tolist() == [0, 1]
    assert pairs.text_embeds[:, 0].tolist() == [0, 8] and pairs.num_broken_videos == 1


def test_a_lost_item_is_an_error():
    with pytest.raises(RuntimeError, match="1 of 3 videos and 3 of 5 captions"):
        encode_pairs(Echo(), [batch([0, 2], [(0, 0), (4, 2)])], CAPTIONS, Accelerator(cpu=True))


def test_scores_of_a_literal_matrix():
    scores = score_similarity(SIMILARITY, LABELS)
    # text to video: ranks 1, 3, 2, 2; video to text: the best own caption of each video has rank 1, 2, 3
    assert scores["raw"]["text_to_video"] == {"R1": 0.25, "R5": 1.0, "R10": 1.0, "MedianR": 2.0, "MeanR": 2.0}
    assert scores["raw"]["video_to_text"]["R1"] == pytest.approx(1 / 3)
    assert scores["raw"]["video_to_text"]["MeanR"] == 2.0
    assert set(scores) == {"raw", "DSL"}
    flat = flat_metrics(scores, "eval_")
    assert flat["eval_text_to_video_R1"] == 0.25 and len(flat) == 20
    assert flat["eval_video_to_text_R1_DSL"] == scores["DSL"]["video_to_text"]["R1"]


def test_querybank_columns_use_a_bank_of_the_other_side():
    # One hub video (0) that the bank likes, one hub text (3).
    similarity = torch.tensor([[0.5, 0.4], [0.46, 0.45], [0.1, 0.2], [0.6, 0.6]])
    labels = torch.tensor([0, 1, 1, 0])
    text_bank = torch.tensor([[0.9, 0.1], [0.8, 0.1]])
    video_bank = torch.tensor([[0.1, 0.1, 0.1, 0.9]])
    scores = score_similarity(similarity, labels, "average", text_bank, video_bank)["QB-Norm"]
    assert scores["text_to_video"]["R1"] == 0.5  # texts 0, 1, 3 leave the hub for video 1, text 2 was there
    assert scores["video_to_text"]["R1"] == 1.0  # text 3, the best of both in the raw scores, is held back


def test_table_has_a_column_for_each_post_processing():
    table = score_table(score_similarity(SIMILARITY, LABELS)).splitlines()
    assert table[0].split() == ["raw", "DSL"]
    assert table[1].split()[:5] == ["text", "to", "video", "R1", "25.0"]
    assert table[4].split()[:2] == ["MedianR", "2.0"] and table[6].startswith("video to text R1")
    assert len({len(line) for line in table}) == 1


def test_real_model_in_batches_equals_each_pair_alone(tiny_run):
    dataset, protocol = load_dataset("videofolder", tiny_run / "videos", "test")
    model, processor = load_model_and_processor(tiny_run / "model")
    accelerator = Accelerator(cpu=True)
    loader = evaluation_loader(dataset, processor, accelerator, batch_size=3, num_workers=2)
    pairs = encode_pairs(model, loader, dataset, accelerator)
    assert pairs.similarity.shape == (10, 5) and pairs.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    with torch.no_grad():
        for row, record in enumerate(dataset):
            inputs = processor(videos=record["video"]["path"], text=record["captions"], return_tensors="pt")
            alone = model(**inputs)
            torch.testing.assert_close(pairs.video_embeds[row], alone.video_embeds[0], atol=1e-6, rtol=0)
            torch.testing.assert_close(pairs.text_embeds[2 * row : 2 * row + 2], alone.text_embeds, atol=1e-6, rtol=0)
    line = protocol_line(protocol, processor.input_protocol())
    for fact in (
        "videos (videofolder), test: 5 videos, 10 captions",
        "frames: 4",
        "uniform",
        "32x32",
        "at most 60 tokens",
    ):
        assert fact in line


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_frames": 0}, "num_frames is 0"), ({"max_length": 78}, "max_length is 78; expected 2 to 77")],
)
def test_impossible_inputs_are_refused(tiny_run, change, message):
    with pytest.raises(ValueError, match=message):
        load_model_and_processor(tiny_run / "model", **change)


def test_a_number_of_frames_takes_the_place_of_a_rate(tiny_run, tmp_path):
    model, processor = load_model_and_processor(tiny_run / "model")
    processor.video_processor.fps = 2.0
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    asked = load_model_and_processor(tmp_path, num_frames=3)[1]
    frames = [one.input_protocol()["frames"] for one in (load_model_and_processor(tmp_path)[1], asked)]
    assert frames == ["2.0 a second", 3]


def test_a_folder_without_video_processor_is_refused(tiny_run, tmp_path):
    model, processor = load_model_and_processor(tiny_run / "model")
    model.save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    with pytest.raises((ValueError, OSError)):
        load_model_and_processor(tmp_path)
