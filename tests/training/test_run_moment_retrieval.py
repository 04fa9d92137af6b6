"""Moments are learnt from a folder; a killed run ends with the same bits; two processes give one's gradients."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors.torch import load_file

from hf_videolang.data.batches.moment_retrieval import MomentRetrievalCollator, query_rows
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.training.moment_retrieval_arguments import MomentRetrievalTrainingArguments
from hf_videolang.training.moment_retrieval_trainer import MomentRetrievalTrainer
from hf_videolang.training.run_moment_retrieval import main
from tests.common.moments import write_features, write_moments
from tests.common.tiny.hero import tiny_config, tiny_processor
from tests.losses.processes import run_processes
from tests.training.tiny_run import kill, start, wait_for_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_moments(tmp_path_factory.mktemp("moments"))


def words(folder, output, *more: str) -> list[str]:
    options = {
        "model": folder / "model",
        "data_dir": folder / "data",
        "features": folder / "features",
        "output_dir": output,
        "select_on": "none",
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "losses": json.dumps({"span_loss_weight": 1.0, "span_drop_probability": 0.2, "margin": 0.2}),
        "hard_negatives_from_step": 2,
        "hard_pool_size": 2,
        "report_to": "none",
        "logging_steps": 1,
    }
    return [*(word for name, value in options.items() for word in (f"--{name}", str(value))), *more]


def run(folder, output, *more: str) -> int:
    return main(words(folder, output, *more))


@pytest.mark.usefixtures("columns_are_taken_whole")
def test_moments_are_learnt_from_a_folder(folder, tmp_path, capsys):
    torch.manual_seed(0)
    fresh = HeroForVideoTextRetrieval(tiny_config())
    fresh.config.architectures = [type(fresh).__name__]
    fresh.save_pretrained(folder / "fresh")
    tiny_processor().save_pretrained(folder / "fresh")
    weights = dict.fromkeys(("span_loss_weight", "video_ranking_weight", "query_ranking_weight"), 1.0)
    losses = json.dumps({**weights, "span_drop_probability": 0.0, "margin": 0.2})
    more = ["--model", str(folder / "fresh"), "--max_steps", "90", "--losses", losses]
    more += ["--hard_negatives_from_step", "80", "--learning_rate", "2e-3"]
    assert run(folder, tmp_path / "run", *more, "--lr_scheduler_type", "linear") == 0
    assert "3 videos, 9 queries" in capsys.readouterr().out
    (evaluation,) = json.loads((tmp_path / "run" / "eval_results.json").read_text())["evaluations"]
    assert evaluation["scores"]["raw"].keys() >= {"VCMR_IoU0.7", "VR"}
    model, processor = load_model_and_processor(str(tmp_path / "run"))
    records, _ = find_dataset(str(folder / "data")).load("train", need_videos=False)
    evaluator = MomentRetrievalEvaluator(processor, FeatureStore(folder / "features"))
    scores = evaluator(model, records, Accelerator(cpu=True))["raw"]
    assert scores["SVMR_IoU0.7"]["R1"] >= 0.9, scores  # on what it was trained on; chance is one in ten
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["margin"] == 0.2 and config["hard_pool_size"] == 2


def test_a_killed_run_ends_with_the_same_bits(folder, tmp_path):
    """Hard mismatches from update 2, and span losses that are left out at random, continue as if nothing happened."""
    steps = ["--max_steps", "30", "--save_strategy", "steps", "--save_steps", "3", "--test", "false"]
    process = start("hf_videolang.training.run_moment_retrieval", *words(folder, tmp_path / "killed", *steps))
    wait_for_checkpoint(tmp_path / "killed", process)
    kill(process)
    assert run(folder, tmp_path / "killed", *steps, "--resume_from_checkpoint", "true") == 0
    assert run(folder, tmp_path / "whole", *steps) == 0
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_bf16_trains_like_float32(folder, tmp_path):
    losses = {}
    for precision in ("false", "true"):
        output = tmp_path / precision
        assert run(folder, output, "--max_steps", "3", "--test", "false", "--bf16", precision) == 0
        lines = json.loads((output / "trainer_state.json").read_text())["log_history"]
        losses[precision] = [line["loss"] for line in lines if "loss" in line]
        assert all(value.dtype == torch.float32 for value in load_file(output / "model.safetensors").values())
    assert losses["true"] == pytest.approx(losses["false"], rel=0.05) and losses["true"] != losses["false"]


def test_long_queries_are_left_out_and_counted(folder, tmp_path, capsys):
    metadata = folder / "data" / "metadata.jsonl"
    lines = metadata.read_text()
    long = lines.replace('"text": "a"', '"text": "a a a a"')
    count = sum(line.count('"text": "a a a a"') for line in long.splitlines() if '"train"' in line)
    assert count
    try:
        metadata.write_text(long)
        assert run(folder, tmp_path, "--max_steps", "1", "--max_length", "3", "--test", "false") == 0
    finally:
        metadata.write_text(lines)
    assert f"{count} of 24 training queries are too long and are left out." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--losses", '{"temperature": 1}'], "losses has 'temperature', which the model's config lacks"),
        (["--per_device_train_batch_size", "64"], "24 queries to train on, fewer than one global batch of 64"),
    ],
)
def test_what_does_not_fit_is_told(folder, tmp_path, capsys, more, message):
    assert run(folder, tmp_path, *more) == 2
    assert message in capsys.readouterr().err


def test_incomplete_batches_of_several_processes_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(MomentRetrievalTrainingArguments, "world_size", 2)
    args = MomentRetrievalTrainingArguments(str(tmp_path), dataloader_drop_last=False, report_to="none")
    model = HeroForVideoTextRetrieval.from_pretrained(folder / "model")
    with pytest.raises(ValueError, match=r"dataloader_drop_last is false with 2 processes: .* a wrong negative"):
        MomentRetrievalTrainer(model, args, HeroProcessor.from_pretrained(folder / "model"))


def loss_and_gradients(folder, rows) -> tuple[float, dict[str, torch.Tensor]]:
    """Of one batch, as the trainer computes it; in several processes averaged as DistributedDataParallel does."""
    model = HeroForVideoTextRetrieval.from_pretrained(folder / "model").train()
    model.config.update({"span_drop_probability": -1.0, "span_loss_weight": 0.5})
    processor = HeroProcessor.from_pretrained(folder / "model")
    args = MomentRetrievalTrainingArguments(
        str(folder / "unused"), hard_negatives_from_step=0, hard_pool_size=2, report_to="none"
    )
    trainer = MomentRetrievalTrainer(model, args, processor)
    inputs = MomentRetrievalCollator(processor, FeatureStore(folder / "features"))(rows)
    loss = trainer.compute_loss(model, inputs)
    loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    if dist.is_initialized():
        loss = loss.detach()
        for value in (loss, *gradients.values()):
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return float(loss.detach()), gradients


def test_span_losses_and_hard_mismatches_begin_at_their_steps(folder, tmp_path):
    model = HeroForVideoTextRetrieval.from_pretrained(folder / "model").eval()
    processor, losses = HeroProcessor.from_pretrained(folder / "model"), {}
    inputs = MomentRetrievalCollator(processor, FeatureStore(folder / "features"))(rows_of(folder))
    for first in (0, 3, -1):
        args = MomentRetrievalTrainingArguments(
            str(tmp_path), span_loss_from_step=first, hard_negatives_from_step=5, hard_pool_size=2, report_to="none"
        )
        trainer = MomentRetrievalTrainer(model, args, processor)
        for step in (2, 3, 5):
            trainer.state.global_step = step
            loss, output = trainer.compute_loss(model, dict(inputs), return_outputs=True)
            losses[first, step] = float(loss.detach())
            assert model.config.hard_pool_size == (2 if step == 5 else 0)
    spans = inputs["start_positions"], inputs["end_positions"]
    logits = output.start_logits, output.end_logits
    span = 0.01 * sum(map(torch.nn.functional.cross_entropy, logits, spans)).item()
    assert losses[-1, 2] == losses[-1, 3] != losses[-1, 5]
    assert losses[3, 2] == losses[-1, 2] and losses[3, 3] == losses[0, 3] == losses[0, 2]
    assert losses[0, 2] - losses[-1, 2] == pytest.approx(span, rel=1e-3) and span > 0


def rows_of(folder):
    records, _ = find_dataset(str(folder / "data")).load("train", need_videos=False)
    rows = list(query_rows(records).select(range(0, 24, 3)))
    return rows


def save_loss_and_gradients(rank: int, folder, rows) -> None:
    result = loss_and_gradients(folder, rows[4 * rank : 4 * rank + 4])
    if rank == 0:
        torch.save(result, folder / "two.pt")


def test_two_processes_of_unequal_lengths_are_one(tmp_path):
    folder = write_moments(tmp_path)
    rows = rows_of(folder)
    store = FeatureStore(folder / "features")
    cut = {row["video_id"] for row in rows[4:]}  # the second process has shorter videos
    videos = {
        name: store.features(name).numpy()[: 9 if name in cut else None].astype(np.float16) for name in store.video_ids
    }
    (folder / "features").rename(folder / "long")
    write_features(folder / "features", videos)
    run_processes(save_loss_and_gradients, 2, folder, folder, rows)
    loss, gradients = torch.load(folder / "two.pt")
    expected_loss, expected = loss_and_gradients(folder, rows)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(gradients[name], value, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
