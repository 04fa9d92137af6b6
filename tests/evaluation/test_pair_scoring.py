"""Scores of pairs: exact, each video once, no padding, bounded memory, several processes, after a kill."""

import pytest
import torch
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.evaluation import pair_scoring
from hf_videolang.evaluation.pair_scoring import PairScoringEvaluator, count_flops
from hf_videolang.evaluation.reranking import RerankingEvaluator
from hf_videolang.evaluation.retrieval import RetrievalEvaluator
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.models.clipbert.configuration_clipbert import ClipBertConfig
from hf_videolang.models.clipbert.modeling_clipbert import ClipBertForVideoTextRetrieval
from tests.common.tiny.clipbert import tiny_inputs, tiny_model


@pytest.fixture(scope="module")
def records(tiny_run):
    return load_dataset("videofolder", tiny_run / "videos", "train+validation")[0].select(range(7))


@pytest.fixture(scope="module")
def scorer(tiny_pairs):
    return load_model_and_processor(tiny_pairs)


@pytest.fixture(scope="module")
@torch.no_grad()
def alone(scorer, records):
    """Log-odds of every pair, each by a forward pass of its own."""
    model, processor = scorer
    captions = [caption for texts in records["captions"] for caption in texts]
    rows = [
        [model(**processor(videos=video["path"], text=caption)).logits.diff()[0, 0] for video in records["video"]]
        for caption in captions
    ]
    return torch.tensor(rows)


@pytest.mark.parametrize("options", [{}, {"retrieval_loss": "ranking"}, {"score_aggregation": "logsumexp"}])
@torch.no_grad()
def test_the_model_scores_prepared_pairs_as_forward_does(options):
    for layers in (1, 3):
        model = tiny_model(**options, num_hidden_layers=layers)
        inputs = tiny_inputs(batch=3, clips=3)
        expected = model(**inputs)
        videos = model.prepare_videos(inputs["pixel_values_videos"])
        for row, mask in enumerate(inputs["attention_mask"].bool()):
            texts = model.prepare_texts(inputs["input_ids"][row, mask][None])
            score = model.score_pairs(videos[row : row + 1], texts)
            torch.testing.assert_close(score.sigmoid(), expected.scores[row : row + 1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("gigabytes", [4, 0])
def test_scores_are_those_of_each_pair_alone(scorer, records, alone, gigabytes, monkeypatch):
    """With almost no memory for what is kept, and in pieces of a few pairs, too."""
    model, processor = scorer
    monkeypatch.setattr(pair_scoring, "ELEMENTS", 2**26 if gigabytes else 20000)
    seen, lengths = [], []
    forward, prepare = model.clipbert.cnn.forward, model.prepare_texts
    monkeypatch.setattr(model.clipbert.cnn, "forward", lambda clips: seen.append(len(clips)) or forward(clips))
    monkeypatch.setattr(model, "prepare_texts", lambda ids: lengths.append(ids.shape) or prepare(ids))
    evaluator = PairScoringEvaluator(processor, batch_size=3, cache_gigabytes=gigabytes)
    scores = evaluator.score(model, records, Accelerator(cpu=True))
    torch.testing.assert_close(scores, alone, atol=1e-5, rtol=0)
    assert sum(seen) == 7 * 2 + 2  # once a clip, and once to count operations
    moves = scores[1::2]  # every second caption is "it moves"
    assert torch.equal(moves, moves[:1].expand_as(moves))
    tokens = {len(processor.tokenizer(caption)["input_ids"]) for texts in records["captions"] for caption in texts}
    assert {shape[1] for shape in lengths} == tokens and len(tokens) > 2  # no padding
    if gigabytes:
        assert sum(shape[0] for shape in lengths) - len(tokens) == 8  # each of 8 different captions once


def test_only_wanted_pairs_are_scored(scorer, records, alone):
    model, processor = scorer
    wanted = torch.rand(alone.shape) < 0.3
    wanted[1::2] = wanted[1::2].any(dim=0)  # equal captions are one text
    scores = PairScoringEvaluator(processor).score(model, records, Accelerator(cpu=True), wanted)
    assert torch.equal(~scores.isnan(), wanted)
    torch.testing.assert_close(scores[wanted], alone[wanted], atol=1e-5, rtol=0)


def test_reranking_everything_is_the_pair_scorer_alone(scorer, tiny_run, records):
    model, processor = scorer
    first_model, first_processor = load_model_and_processor(tiny_run / "model")
    accelerator, second = Accelerator(cpu=True), PairScoringEvaluator(processor)
    expected = second(model, records, accelerator)
    assert list(expected) == ["raw", "chance"]
    for top, seen in ((14, 98), (2, None)):
        evaluator = RerankingEvaluator(RetrievalEvaluator(first_processor), second, model, "second", top)
        scores = evaluator(first_model, records, accelerator)
        assert list(scores) == ["raw", "DSL", f"reranked (top {top})", "chance"]
        if seen:
            assert scores[f"reranked (top {top})"] == expected["raw"] != scores["raw"]
            assert evaluator.settings["pairs read"] == "98 of 98"
        else:  # the best two of each text are read
            for text, row in enumerate(evaluator.tensors["similarity"]):
                best = row.argsort(descending=True, stable=True)[:2]
                assert not evaluator.tensors["pair_scores"][text, best].isnan().any()


def test_operations_are_those_of_the_specification():
    """clipbert §14: 36.40 GFLOP a frame, and 11.90 a pair, of which the last layer and projections are saved."""
    with torch.device("meta"):
        model = ClipBertForVideoTextRetrieval(ClipBertConfig()).eval()
    projections = 49 * 3 * 2 * 768**2
    frame = count_flops(model, (1, 1, 3, 448, 448), torch.zeros(1, 1, dtype=torch.bool), torch.tensor([20]), "meta")
    assert (frame - projections) / 1e9 == pytest.approx(36.40, abs=0.01)
    pairs = torch.ones(1, 1000, dtype=torch.bool)
    many = count_flops(model, (1, 1, 3, 448, 448), pairs, torch.full((1000,), 20), "meta")
    a_pair = (many - frame) / 1000 - 20 * 3 * 2 * 768**2
    # 1.20e16 - 7.3e13 without the two savings, 1.09e16 with them, for 1e6 pairs (two frames a clip)
    assert a_pair / 1e9 == pytest.approx(10.9 - 0.073, abs=0.05)


def test_operations_are_those_that_are_done():
    model, inputs = tiny_model(), tiny_inputs(batch=1)
    asked, length = torch.ones(1, 3, dtype=torch.bool), 6
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        videos = model.prepare_videos(inputs["pixel_values_videos"])
        texts = model.prepare_texts(inputs["input_ids"][:, :length].expand(3, -1))
        model.score_pairs(videos.expand(3, -1, -1, -1), texts)
    shape = inputs["pixel_values_videos"].shape[1:]
    assert count_flops(model, shape, asked, torch.tensor([length] * 3)) == counter.get_total_flops()
