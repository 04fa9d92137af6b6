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

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.evaluation.retrieval import RetrievalEvaluator
from hf_videolang.evaluation.scores import flat_scores
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.losses import contrastive_loss
from hf_videolang.training.optimization import DecayLastAdamW, learning_rate_at
from hf_videolang.training.retrieval_arguments import RetrievalTrainingArguments
from hf_videolang.training.retrieval_trainer import RetrievalTrainer, choose_loss
from hf_videolang.training.run import freeze_parts
from tests.common.tiny.clip_vip import tiny_model

QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
ORIGINAL = {
    "optim": "decay_last_adamw",
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.01,
    "weight_decay": 0.2,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
}


def make_trainer(tiny_run, output_dir, split="train", eval_split=None, model=None, **options):
    options = {**QUIET, **ORIGINAL, "eval_strategy": "steps" if eval_split else "no", **options}
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
            group["lr"] = learning_rate_at(step, 1e-3, 2, warmup=0.01)
        optimizer.step()
        optimizer.zero_grad()
    assert losses(trainer) == pytest.approx(expected, abs=2e-4)  # the Trainer logs four decimals
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter, named[name], atol=1e-7, rtol=0, msg=name)


def test_the_number_of_updates_is_the_originals(tiny_run, tmp_path):
    # 22 videos (of 24, 2 are held out), batches of 2 x 4: ceil(5 * 22 / 8) = 14, although an epoch has 2 updates
    trainer = make_trainer(
        tiny_run, tmp_path, num_train_epochs=5, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    assert len(trainer.train_dataset) == 22 and trainer.args.max_steps == 14


def test_logit_scale_is_clamped_after_each_update(tiny_run, tmp_path):
    for bound, expected in ((math.log(200), math.log(200)), (None, 9.0)):
        model, _ = load_model_and_processor(tiny_run / "model")
        with torch.no_grad():
            model.logit_scale.fill_(9.0)
        trainer = make_trainer(tiny_run, tmp_path, model=model, max_steps=1, learning_rate=1e-6, max_logit_scale=bound)
        trainer.train()
        assert model.logit_scale.item() == pytest.approx(expected, abs=1e-5)
        assert trainer.state.log_history[0]["logit_scale"] == model.logit_scale.item()


@pytest.mark.parametrize(("is_sum", "factor"), [(False, 1), (True, 2)])
def test_gradients_of_batches_are_averaged_or_added_up(tiny_run, tmp_path, is_sum, factor):
    """The average of a batch and the same batch is that batch, their sum is twice the batch."""
    options = {"gradient_accumulation_steps": 2, "sum_accumulated_gradients": is_sum}
    trainer = make_trainer(tiny_run, tmp_path, max_steps=1, **options)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 2
    batch = first_batch(trainer)
    for _ in range(2):
        trainer.training_step(trainer.model, dict(batch))
    twice = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).backward()
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(twice[name], factor * parameter.grad, msg=name)


def test_epochs_draw_other_captions_and_frames(tiny_run, tmp_path):
    trainer = make_trainer(tiny_run, tmp_path, num_train_epochs=2, per_device_train_batch_size=11)
    seen = []
    collate = trainer.data_collator.__call__
    trainer.data_collator = lambda records: seen.append([r["video_id"] for r in records]) or collate(records)
    trainer.data_collator.set_epoch = collate.__self__.set_epoch
    trainer.train()
    assert len(seen) == 4 and sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) and seen[0] != seen[2]
    assert int(collate.__self__._epoch) == 1


def test_evaluation_does_not_depend_on_the_batches(tiny_run, tmp_path):
    options = {"per_device_eval_batch_size": 2, "eval_steps": 1, "eval_on_start": True}
    trainer = make_trainer(tiny_run, tmp_path, eval_split="test", max_steps=1, **options)
    trainer.train()
    logged = [line for line in trainer.state.log_history if "eval_text_to_video_R1" in line]
    assert [line["step"] for line in logged] == [0, 1]
    evaluator = RetrievalEvaluator(trainer.processing_class, batch_size=5)
    scores = evaluator(trainer.model.eval(), trainer.eval_dataset, trainer.accelerator)
    expected = flat_scores(scores, "eval_")
    assert {key: logged[1][key] for key in expected} == pytest.approx(expected)


def test_activations_can_be_recomputed(tiny_run, tmp_path):
    grown = []
    for recompute in (False, True):
        options = {"max_steps": 2, "learning_rate": 1e-3, "activation_checkpointing": recompute}
        trainer = make_trainer(tiny_run, tmp_path, **options)
        trainer.train()
        assert trainer.model.vision_model.encoder.gradient_checkpointing is recompute
        grown.append({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
    for name, tensor in grown[0].items():
        torch.testing.assert_close(grown[1][name], tensor, atol=1e-7, rtol=0, msg=name)


@pytest.mark.skipif(
    not (shutil.which(os.environ.get("CXX", "g++")) and Path(sysconfig.get_path("include"), "Python.h").is_file()),
    reason="torch.compile for the CPU needs a C++ compiler (g++ or $CXX) and Python.h",
)
def test_compiled_by_inductor(tiny_run, tmp_path):
    """With one block a tower, and texts as they are, because the compiler takes most of the time."""
    grown = []
    with mock.patch.dict(os.environ):  # TrainingArguments set variables for Accelerate
        for compiled in (False, True):
            model = tiny_model(num_hidden_layers=1)
            del model.text_model.encoder.layers[1:]
            freeze_parts(model, ["text_model"])
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
    trainer = make_trainer(tiny_run, tmp_path, max_steps=2, bf16=True)
    trainer.train()
    exact = make_trainer(tiny_run, tmp_path, max_steps=1)
    expected = exact.compute_loss(exact.model, exact._prepare_inputs(first_batch(exact))).item()
    assert losses(trainer)[0] == pytest.approx(expected, rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


def first_batch(trainer):
    return next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize(
    ("name", "options"),
    [("dual_softmax", None), ("hard_negative", {"num_negatives": 3}), ("ranking", {"margin": 0.3})],
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


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_the_optimiser_knows_whether_it_trains(tiny_run, tmp_path, monkeypatch, chunk_size):
    """Schedule-free optimisers must."""
    calls: list[str] = []
    for mode in ("train", "eval"):
        monkeypatch.setattr(DecayLastAdamW, mode, lambda _, mode=mode: calls.append(mode), raising=False)
    options = {"max_steps": 2, "per_device_train_batch_size": 8, "eval_steps": 1}
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloader_drop_last": False}, "dataloader_drop_last is false with 2 processes: .* a wrong negative"),
        ({"on_broken_video": "skip"}, "on_broken_video is 'skip' with 2 processes"),
    ],
)
def test_unequal_batches_of_several_processes_are_refused(tiny_run, tmp_path, monkeypatch, options, message):
    make_trainer(tiny_run, tmp_path, **options)
    monkeypatch.setattr(RetrievalTrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match=message):
        make_trainer(tiny_run, tmp_path, **options)


def test_too_few_videos_for_a_batch(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="22 videos to train on, fewer than one global batch of 64"):
        make_trainer(tiny_run, tmp_path, per_device_train_batch_size=64).train()
