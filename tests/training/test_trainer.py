"""VideoTrainer with a plain model that returns its loss: optimisation, resumption, counts, evaluation, checks."""

import math

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

from hf_videolang.training.arguments import VideoTrainingArguments
from hf_videolang.training.optimization import DecayLastAdamW, learning_rate_at
from hf_videolang.training.run import freeze_parts
from hf_videolang.training.trainer import VideoTrainer

QUIET = {"report_to": "none", "disable_tqdm": True, "logging_steps": 1, "per_device_train_batch_size": 2}


class LineConfig(PreTrainedConfig):
    model_type = "line"


class LineModel(PreTrainedModel):
    """A line with a learnt scale, which predicts the sum of its inputs."""

    config: LineConfig
    accepts_loss_kwargs = False

    def __init__(self, config):
        super().__init__(config)
        self.encoder = nn.Linear(3, 3)
        self.head = nn.Linear(3, 1)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            module.weight.data.normal_()

    def forward(self, x, labels):
        return {"loss": (self.head(self.encoder(x)) * self.scale - labels).square().mean()}


class Collator:
    """Two samples a batch, one of which was broken; it notes the epochs."""

    def __init__(self):
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __call__(self, rows):
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {**batch, "num_broken_videos": torch.tensor([1])}


class Evaluator:
    """Gives the same scores for all records."""

    def __init__(self, processor=None):
        self.seen = []

    def __call__(self, model, records, accelerator, progress=None):
        self.seen.append(([*progress(records)], model.training))
        return {"raw": {"what": {"R1": 0.5}}, "DSL": {"what": {"R1": 0.75}}}

    def metric_names(self):
        return ["what_R1", "what_R1_DSL"]


def data(rows=16):
    generator = torch.Generator().manual_seed(1)
    return [{"x": row, "labels": row.sum()[None]} for row in torch.randn(rows, 3, generator=generator)]


def make_trainer(folder, evaluator=None, eval_dataset=None, collator=None, model=None, **options):
    torch.manual_seed(0)
    args = VideoTrainingArguments(str(folder), **{**QUIET, "save_strategy": "no", **options})
    model = model or LineModel(LineConfig())
    return VideoTrainer(model, args, None, data(), eval_dataset, collator or Collator(), evaluator)


def logged(trainer, key):
    return [line[key] for line in trainer.state.log_history if key in line]


ORIGINAL = {
    "optim": "decay_last_adamw",
    "learning_rate": 0.02,
    "weight_decay": 0.1,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.25,
    "max_steps": 8,
}


def test_the_original_optimisation_trains_and_resumes_to_the_same_bits(tmp_path):
    def trainer_with_rates(folder):
        trainer = make_trainer(
            folder, **ORIGINAL, lr_multipliers={"encoder": 1, "": 10}, save_strategy="steps", save_steps=3
        )
        used = []
        optimizer = trainer.create_optimizer()
        optimizer.register_step_pre_hook(lambda o, *_: used.append([group["lr"] for group in o.param_groups]))
        return trainer, used

    full, used = trainer_with_rates(tmp_path)
    full.train()
    expected = [learning_rate_at(step, 0.02, 8, warmup=0.25) for step in range(1, 9)]
    assert [rates[0] for rates in used] == pytest.approx(expected) == logged(full, "learning_rate")
    assert [rates[-1] for rates in used] == pytest.approx([10 * rate for rate in expected])
    assert isinstance(full.optimizer.optimizer, DecayLastAdamW)

    resumed, resumed_rates = trainer_with_rates(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed_rates == used[3:] and logged(resumed, "loss") == logged(full, "loss")
    for ours, reference in zip(resumed.model.parameters(), full.model.parameters(), strict=True):
        assert torch.equal(ours, reference)


def test_another_optimiser_has_the_same_decay_and_multipliers(tmp_path):
    for optim, kind in (("sgd", torch.optim.SGD), ("adamw_torch", torch.optim.AdamW)):
        trainer = make_trainer(tmp_path, optim=optim, learning_rate=0.1, weight_decay=0.3, lr_multipliers={"head": 10})
        optimizer = trainer.create_optimizer()
        assert isinstance(optimizer, kind)
        found = {
            name: (group["lr"], group["weight_decay"])
            for name, parameter in trainer.model.named_parameters()
            for group in optimizer.param_groups
            if any(parameter is other for other in group["params"])
        }
        assert found == {
            "encoder.weight": (0.1, 0.3),
            "encoder.bias": (0.1, 0.0),
            "head.weight": (1.0, 0.3),
            "head.bias": (1.0, 0.0),
            "scale": (0.1, 0.0),
        }
    plain = make_trainer(tmp_path, weight_decay=0.3).create_optimizer()  # the Trainer's own groups
    assert [(group["weight_decay"], len(group["params"])) for group in plain.param_groups] == [(0.3, 2), (0.0, 3)]


def test_a_schedule_with_options_is_the_trainers(tmp_path):
    options = {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}, "max_steps": 4}
    trainer = make_trainer(tmp_path, learning_rate=1.0, **options)
    trainer.train()
    assert logged(trainer, "learning_rate") == pytest.approx([1.0, 0.5, 1.0, 0.5])


def test_counts_of_the_batches_are_logged(tmp_path):
    collator = Collator()
    trainer = make_trainer(tmp_path, collator=collator, num_train_epochs=2, logging_steps=3)
    trainer.train()
    assert logged(trainer, "broken_videos") == [3, 3, 3, 3, 3, 1]  # the last line is that of the end
    assert collator.epochs == [0, 1]


def test_without_an_evaluator_the_loss_is_the_score(tmp_path):
    trainer = make_trainer(tmp_path, eval_dataset=data(4), eval_strategy="epoch", num_train_epochs=1)
    trainer.train()
    assert len(logged(trainer, "eval_loss")) == 1


def test_the_evaluator_scores_and_chooses(tmp_path):
    records = {"one": data(3), "two": data(5)}
    choosing = {"load_best_model_at_end": True, "metric_for_best_model": "two_what_R1_DSL", "save_strategy": "steps"}
    trainer = make_trainer(
        tmp_path, Evaluator(), records, max_steps=2, eval_strategy="steps", eval_steps=1, save_steps=1, **choosing
    )
    trainer.train()
    assert [(len(rows), training) for rows, training in trainer.evaluator.seen] == [(3, False), (5, False)] * 2
    assert logged(trainer, "eval_one_what_R1") == [0.5, 0.5] and logged(trainer, "eval_two_what_R1_DSL") == [0.75] * 2
    assert trainer.state.best_global_step == 2 and trainer.last_scores["DSL"]["what"]["R1"] == 0.75
    assert trainer.evaluate(records["one"], metric_key_prefix="final")["final_what_R1"] == 0.5


@pytest.mark.parametrize(("metric", "best"), [("what_R1", 3), ("what_R1_DSL", 4)])
def test_of_equal_scores_the_lower_mean_rank_wins_and_then_the_later_step(tmp_path, metric, best):
    """Also after a resumption, which knows the mean rank of the best checkpoint from the log alone."""
    mean_ranks = [3.0, 2.0, 2.0, 4.0]
    given = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 4}

    class TiedEvaluator(Evaluator):
        def __call__(self, model, records, accelerator, progress=None):
            rank = mean_ranks[trainer.state.global_step - 1]
            return {"raw": {"what": {"R1": 0.5, "MeanR": rank}}, "DSL": {"what": {"R1": 0.5, "MeanR": -rank}}}

    for start_from in (None, str(tmp_path / "checkpoint-2")):
        trainer = make_trainer(
            tmp_path, TiedEvaluator(), data(2), load_best_model_at_end=True, metric_for_best_model=metric, **given
        )
        trainer.train(resume_from_checkpoint=start_from)
        assert trainer.state.best_global_step == best
        assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")


def test_without_a_mean_rank_the_later_of_equal_scores_wins(tmp_path):
    choosing = {"load_best_model_at_end": True, "metric_for_best_model": "what_R1", "eval_strategy": "steps"}
    saving = {"eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    trainer = make_trainer(tmp_path, Evaluator(), data(2), **choosing, **saving)
    trainer.train()
    assert trainer.state.best_global_step == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric_for_best_model": "R1"}, "metric_for_best_model is 'R1'; expected one of what_R1, what_R1_DSL"),
        ({"save_steps": 2}, "eval_steps 1 and save_steps 2: the best evaluation may have no checkpoint"),
    ],
)
def test_what_would_fail_after_hours_fails_at_once(tmp_path, options, message):
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, **options}
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, Evaluator(), data(2), load_best_model_at_end=True, **options)


@pytest.mark.parametrize(
    ("metric", "greater"), [("text_to_video_R1", True), ("eval_video_to_text_MedianR_DSL", False), ("loss", False)]
)
def test_the_best_rank_is_the_lowest(tmp_path, metric, greater):
    args = VideoTrainingArguments(str(tmp_path), metric_for_best_model=metric)
    assert args.greater_is_better is greater


def test_a_process_uses_one_gpu_of_several_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    args = VideoTrainingArguments(str(tmp_path), per_device_train_batch_size=5)
    assert args.n_gpu == 1 and args.train_batch_size == 5
    assert "one of the 4 GPUs" in caplog.text


def test_frozen_parts_do_not_move(tmp_path):
    model = LineModel(LineConfig())
    with pytest.raises(ValueError, match="freeze has 'text_model'; expected parts of the model: encoder, head, scale"):
        freeze_parts(model, ["text_model"])
    freeze_parts(model, ["encoder", "head.bias", "scale"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make_trainer(tmp_path, model=model, **ORIGINAL).train()
    moved = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert moved == ["head.weight"]
    assert math.isfinite(model(**data(1)[0])["loss"].item())
