"""RetrievalTrainer in one process: loss, optimiser, clamp, evaluation, policies."""

import math
import os
import shutil
import sysconfig
from pathlib import Path
from unittest import mock

import pytest
import torch
from accelerate.state import AcceleratorState
from torch._dynamo.utils import counters
from transformers import TrainingArguments

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.evaluation.retrieval import (
    encode_pairs,
    evaluation_loader,
    score_similarity,
)
from hf_videolang.evaluation.scores import flat_scores
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.losses import contrastive_loss
from hf_videolang.training.contrastive_arguments import CHECKPOINTING
from hf_videolang.training.optimization import DecayLastAdamW, learning_rate_at
from hf_videolang.training.retrieval_arguments import RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer, choose_loss
from tests.common.tiny.clip_vip import tiny_model

QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
NO_EVALUATION = {"eval_strategy": "no", "eval_on_start": False, "load_best_model_at_end": False}


def make_trainer(tiny_run, output_dir, split="train", eval_split=None, model=None, **options):
    options = {
        **QUIET,
        **(NO_EVALUATION if eval_split is None else {"load_best_model_at_end": False}),
        **options,
    }
    args = RetrievalTrainingArguments(output_dir=str(output_dir), **options)
    loaded, processor = load_model_and_processor(tiny_run / "model")
    train = load_dataset("videofolder", tiny_run / "videos", split)[0]
    evaluation = eval_split and load_dataset("videofolder", tiny_run / "videos", eval_split)[0]
    return RetrievalTrainer(model or loaded, args, processor, train, evaluation)


def losses(trainer):
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_two_updates_equal_a_loop_written_out(tiny_run, tmp_path):
    trainer = make_trainer(tiny_run, tmp_path, max_steps=2, per_device_train_batch_size=8, learning_rate=1e-3)
    model, _ = load_model_and_processor(tiny_run / "model")
    batches = []
    trainer.data_collator.set_epoch(0)
    for batch in trainer.get_train_dataloader():
        batches.append(batch)
    trainer.train()

    named = dict(model.named_parameters())
    optimizer = DecayLastAdamW(
        [
            {
                "params": [p for n, p in named.items() if "bias" not in n and n != "logit_scale"],
                "weight_decay": 0.2,
            },
            {
                "params": [p for n, p in named.items() if "bias" in n or n == "logit_scale"],
                "weight_decay": 0.0,
            },
        ],
        lr=1e-3,
    )
    model.train()
    expected = []
    for step, batch in enumerate(batches[:2], start=1):
        batch.pop("num_broken_videos")
        output = model(**batch)
        loss = contrastive_loss(output.video_embeds, output.text_embeds, model.logit_scale)
        expected.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, 1e-3, 2)
        optimizer.step()
        optimizer.zero_grad()
    assert losses(trainer) == pytest.approx(expected, abs=2e-4)  # the Trainer logs four decimals
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter, named[name], atol=1e-7, rtol=0, msg=name)


def test_number_of_updates_is_that_of_the_original(tiny_run, tmp_path):
    # 22 videos (of 24, 2 are held out), batches of 2 x 4: ceil(5 * 22 / 8) = 14, although an epoch has 2 updates
    trainer = make_trainer(
        tiny_run, tmp_path, num_train_epochs=5, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    assert len(trainer.train_dataset) == 22 and trainer.args.max_steps == 14


def test_logit_scale_is_put_back_after_each_update(tiny_run, tmp_path):
    model, _ = load_model_and_processor(tiny_run / "model")
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    trainer = make_trainer(tiny_run, tmp_path, model=model, max_steps=2, learning_rate=1e-6)
    trainer.train()
    assert model.logit_scale.item() == pytest.approx(math.log(200))


def test_gradient_accumulation_averages_batches(tiny_run, tmp_path):
    """Twice the same batch, averaged, is that batch: no factor of the number of batches anywhere."""
    trainer = make_trainer(tiny_run, tmp_path, gradient_accumulation_steps=2, max_steps=1)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 2
    batch = next(iter(trainer.get_train_dataloader()))
    for _ in range(2):
        trainer.training_step(trainer.model, dict(batch))
    twice = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, batch).backward()
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(twice[name], parameter.grad, msg=name)


def test_epochs_draw_other_captions_and_frames(tiny_run, tmp_path):
    trainer = make_trainer(tiny_run, tmp_path, num_train_epochs=2, per_device_train_batch_size=11)
    seen = []
    collate = trainer.data_collator.__call__
    trainer.data_collator = lambda records: seen.append([r["video_id"] for r in records]) or collate(records)
    trainer.data_collator.set_epoch = collate.__self__.set_epoch
    trainer.train()
    assert len(seen) == 4 and sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) and seen[0] != seen[2]
    assert int(collate.__self__._epoch) == 1


def test_evaluation_equals_the_shared_function_whatever_the_batches(tiny_run, tmp_path):
    trainer = make_trainer(
        tiny_run, tmp_path, eval_split="test", max_steps=1, per_device_eval_batch_size=2, eval_steps=1
    )
    trainer.train()
    logged = [line for line in trainer.state.log_history if "eval_text_to_video_R1" in line]
    assert [line["step"] for line in logged] == [0, 1]
    dataset, accelerator = trainer.eval_dataset, trainer.accelerator
    loader = evaluation_loader(dataset, trainer.processing_class, accelerator, batch_size=5)
    pairs = encode_pairs(trainer.model.eval(), loader, dataset, accelerator)
    expected = flat_scores(score_similarity(pairs.similarity, pairs.labels), "eval_")
    assert {key: logged[1][key] for key in expected} == pytest.approx(expected)
    predicted = trainer.predict(dataset)
    torch.testing.assert_close(torch.from_numpy(predicted.predictions), pairs.similarity, atol=1e-6, rtol=0)
    assert predicted.label_ids.tolist() == pairs.labels.tolist() and predicted.metrics["test_text_to_video_R1"] >= 0


def test_activations_can_be_recomputed(tiny_run, tmp_path):
    grown = []
    for recompute in (False, True):
        trainer = make_trainer(tiny_run, tmp_path, max_steps=2, checkpoint_activations=recompute, learning_rate=1e-3)
        assert bool(getattr(trainer.args, CHECKPOINTING)) is recompute
        trainer.train()
        assert trainer.model.vision_model.encoder.gradient_checkpointing is recompute
        grown.append({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
    for name, tensor in grown[0].items():
        torch.testing.assert_close(grown[1][name], tensor, atol=1e-7, rtol=0, msg=name)


@pytest.mark.skipif(
    not (shutil.which(os.environ.get("CXX", "g++")) and Path(sysconfig.get_path("include"), "Python.h").is_file()),
    reason="torch.compile for the CPU needs a C++ compiler (g++ or $CXX) and Python.h, and there is none",
)
def test_compiled_by_inductor(tiny_run, tmp_path):
    """One block a tower: the compiler runs for most of the time."""
    grown = []
    with mock.patch.dict(os.environ):  # where TrainingArguments leave word for Accelerate
        for compiled in (False, True):
            model = tiny_model(num_hidden_layers=1)
            del model.text_model.encoder.layers[1:]
            counters.clear()
            options = {"max_steps": 2, "per_device_train_batch_size": 5, "torch_compile": compiled}
            trainer = make_trainer(tiny_run, tmp_path, model=model, learning_rate=1e-3, **options)
            trainer.train()
            assert bool(counters["inductor"]) is compiled and not counters["graph_break"]
            grown.append((losses(trainer), model.state_dict()))
            AcceleratorState._reset_state()
    (expected, weights), (got, compiled_weights) = grown
    assert got == pytest.approx(expected, abs=1e-4)
    for name, tensor in weights.items():
        torch.testing.assert_close(compiled_weights[name], tensor, atol=1e-5, rtol=0, msg=name)


def test_bfloat16(tiny_run, tmp_path):
    trainer = make_trainer(tiny_run, tmp_path, eval_split="test", max_steps=2, bf16=True)
    trainer.train()
    exact = make_trainer(tiny_run, tmp_path, max_steps=1)
    assert losses(trainer)[0] == pytest.approx(exact.compute_loss(exact.model, _first_batch(exact)).item(), rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


def _first_batch(trainer):
    return next(iter(trainer.get_train_dataloader()))


def test_frozen_text_tower_does_not_move(tiny_run, tmp_path):
    model, _ = load_model_and_processor(tiny_run / "model")
    model.text_model.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make_trainer(tiny_run, tmp_path, model=model, max_steps=2, learning_rate=1e-3).train()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("text_model."), name


@pytest.mark.parametrize(
    ("name", "options"),
    [("dual_softmax", None), ("hard_negative", {"num_negatives": 3}), ("ranking", '{"margin": 0.3}')],
)
def test_other_losses_train(tiny_run, tmp_path, name, options):
    trainer = make_trainer(tiny_run, tmp_path, max_steps=1, loss=name, loss_options=options)
    trainer.train()
    assert math.isfinite(losses(trainer)[0])
    assert trainer.model.logit_scale.requires_grad is (name == "dual_softmax")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("contrastiv", None, "expected one of contrastive, dual_softmax, hard_negative, ranking"),
        ("hard_negative", None, "num_negatives"),
        ("contrastive", {"margin": 1}, "margin"),
    ],
)
def test_wrong_losses_are_named(name, options, told):
    with pytest.raises(ValueError, match=told):
        choose_loss(name, options)


def test_learning_rate_multiplier_and_another_optimiser(tiny_run, tmp_path):
    trainer = make_trainer(tiny_run, tmp_path, lr_multiplier=10.0, lr_multiplier_name="logit_scale")
    groups = trainer.create_optimizer().param_groups
    (own,) = [group for group in groups if any(p is trainer.model.logit_scale for p in group["params"])]
    assert own["lr"] == pytest.approx(1e-5) and own["weight_decay"] == 0
    assert sorted(group["lr"] for group in groups) == pytest.approx([1e-6, 1e-6, 1e-5])
    trainer = make_trainer(tiny_run, tmp_path, optim="sgd")
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    free = {
        id(parameter) for group in optimizer.param_groups if not group["weight_decay"] for parameter in group["params"]
    }
    named = dict(trainer.model.named_parameters())
    assert id(named["vision_model.post_layernorm.weight"]) not in free  # LayerNorm gains are decayed
    assert id(named["vision_model.post_layernorm.bias"]) in free and id(named["logit_scale"]) in free


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_the_optimiser_knows_whether_it_trains(tiny_run, tmp_path, monkeypatch, chunk_size):
    """As schedule-free ones must."""
    calls: list[str] = []
    for mode in ("train", "eval"):
        monkeypatch.setattr(DecayLastAdamW, mode, lambda _, mode=mode: calls.append(mode), raising=False)
    options = {"max_steps": 2, "per_device_train_batch_size": 8, "eval_on_start": False, "eval_steps": 1}
    make_trainer(tiny_run, tmp_path, eval_split="validation", gradient_cache_chunk_size=chunk_size, **options).train()
    assert calls == ["train", "eval"] * 2


def test_broken_videos_are_replaced_and_counted(tiny_run, tmp_path):
    trainer = make_trainer(tiny_run, tmp_path, max_steps=2, on_broken_video="replace", per_device_train_batch_size=11)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    records = trainer.train_dataset.to_list()
    records[3]["video"]["path"] = records[7]["video"]["path"] = str(broken)
    trainer.train_dataset = type(trainer.train_dataset).from_list(records, features=trainer.train_dataset.features)
    trainer.train()
    assert sum(line.get("broken_videos", 0) for line in trainer.state.log_history) == 2


def test_too_few_videos_for_a_batch(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="22 videos to train on, fewer than one global batch of 64"):
        make_trainer(tiny_run, tmp_path, per_device_train_batch_size=64).train()


@pytest.mark.parametrize(
    ("metric", "greater"), [("text_to_video_R1", True), ("eval_video_to_text_MedianR_DSL", False)]
)
def test_the_best_rank_is_the_lowest(tmp_path, metric, greater):
    args = RetrievalTrainingArguments(str(tmp_path), metric_for_best_model=metric)
    assert args.greater_is_better is greater


def test_a_process_uses_one_gpu_of_several_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    args = RetrievalTrainingArguments(str(tmp_path), per_device_train_batch_size=5)
    assert args.n_gpu == 1 and args.train_batch_size == 5
    assert "one of the 4 GPUs" in caplog.text


def test_unused_columns_must_stay(tmp_path):
    with pytest.raises(ValueError, match="remove_unused_columns"):
        RetrievalTrainingArguments(output_dir=str(tmp_path), remove_unused_columns=True)
