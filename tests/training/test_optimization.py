"""Parameter groups of the real model, AdamW against a scalar twin, and schedules by hand."""

import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hf_videolang.training.optimization import (
    DecayLastAdamW,
    learning_rate_at,
    learning_rate_scheduler,
    parameter_groups,
    polynomial_scheduler,
)
from tests.common.tiny.clip_vip import tiny_model


def test_groups_of_the_model():
    model = tiny_model()
    model.visual_projection.requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), 1e-6, 0.2, {"logit_scale": 10})
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (1e-6, 0.2),
        (1e-6, 0.0),
        (pytest.approx(1e-5), 0.0),
    ]
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    decayed, free, multiplied = ([name_of[parameter] for parameter in group["params"]] for group in groups)
    assert multiplied == ["logit_scale"]
    assert sorted([*multiplied, *decayed, *free, "visual_projection.weight"]) == sorted(name_of.values())
    assert all(name.endswith(".bias") for name in free)
    for name in (
        "vision_model.pre_layrnorm.weight",
        "vision_model.encoder.layers.0.layer_norm1.weight",
        "text_model.final_layer_norm.weight",
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.added_cls",
        "vision_model.embeddings.temporal_embedding",
    ):
        assert name in decayed


def test_all_but_some_names_are_multiplied():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1), "LayerNorm": nn.LayerNorm(2)})
    groups = parameter_groups(model.named_parameters(), 1e-3, 0.1, {"encoder": 1, "": 10})
    found = [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups]
    assert found == [(1e-3, 0.1, 1), (1e-3, 0.0, 1), (1e-2, 0.1, 1), (1e-2, 0.0, 3)]  # LayerNorm.weight has no decay
    with pytest.raises(ValueError, match="lr_multipliers has 'logit_skale'; expected part of the name"):
        parameter_groups(model.named_parameters(), 1e-3, 0.1, {"logit_skale": 10})


def test_adamw_follows_the_formula():
    """One number, five steps, written out; a second parameter misses a gradient and keeps its own step count."""
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.98, 1e-6, 0.3
    gradients = [0.5, -2.0, 0.1, 0.1, 1e-4]
    number, late = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
    optimizer = DecayLastAdamW([number, late], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)

    def expected(values: list[float]) -> float:
        p, m, v = 1.0, 0.0, 0.0
        for t, g in enumerate(values, start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            p -= lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (math.sqrt(v) + eps)
            p -= lr * decay * p
        return p

    for step, gradient in enumerate(gradients):
        number.grad = torch.tensor(gradient)
        late.grad = torch.tensor(gradient) if step >= 2 else None
        optimizer.step()
    assert number.item() == pytest.approx(expected(gradients), rel=1e-5)
    assert late.item() == pytest.approx(expected(gradients[2:]), rel=1e-5)
    other = torch.optim.AdamW([reference := nn.Parameter(torch.tensor(1.0))], lr, (beta1, beta2), eps, decay)
    for gradient in gradients:
        reference.grad = torch.tensor(gradient)
        other.step()
    assert abs(reference.item() - number.item()) > 1e-3, "the order of decay and step must show"


def test_closure():
    number = nn.Parameter(torch.tensor(1.0))
    optimizer = DecayLastAdamW([number], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = number**2
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert number.item() < 1.0


def test_state_continues_in_either_adamw(tmp_path):
    def steps(model: nn.Linear, optimizer: torch.optim.Optimizer, number: int) -> None:
        for index in range(number):
            optimizer.zero_grad()
            model(torch.full((1, 3), 1.0 + index)).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = DecayLastAdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    steps(model, optimizer, 3)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    steps(model, optimizer, 3)

    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed = nn.Linear(3, 2)
    resumed.load_state_dict(saved["model"])
    again = DecayLastAdamW(resumed.parameters(), lr=1.0)
    again.load_state_dict(saved["optimizer"])
    assert again.param_groups[0]["lr"] == 0.01
    steps(resumed, again, 3)
    assert torch.equal(resumed.weight, model.weight) and torch.equal(resumed.bias, model.bias)

    theirs = torch.optim.AdamW(resumed.parameters())
    theirs.load_state_dict(again.state_dict())
    steps(resumed, theirs, 1)
    assert theirs.state[resumed.weight]["step"] == 7


def test_steps_read_from_a_checkpoint_to_a_gpu_are_counted_on_the_cpu():
    """Fake tensors have a device and no memory: no GPU is needed."""
    with FakeTensorMode():
        parameter = nn.Parameter(torch.ones(2, device="cuda"))
        optimizer = DecayLastAdamW([parameter])
        state = {"step": torch.tensor(3.0, device="cuda"), "exp_avg": parameter, "exp_avg_sq": parameter}
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": {0: state}, "param_groups": groups})
        devices = {name: value.device.type for name, value in optimizer.state[parameter].items()}
    assert devices == {"step": "cpu", "exp_avg": "cuda", "exp_avg_sq": "cuda"}


def test_schedules_by_hand():
    def rates(schedule: str, steps: list[int], **options) -> list[float]:
        return [learning_rate_at(step, 2.0, 10, schedule=schedule, **options) for step in steps]

    assert rates("cosine", [1, 2, 6, 10], warmup=0.2) == pytest.approx([1.0, 2.0, 1.0, 1e-8])
    assert rates("cosine", [14], warmup=2) == pytest.approx([1.0]), "beyond the end the cosine rises again"
    assert rates("linear", [1, 2, 6, 10, 11], warmup=0.2) == pytest.approx([1.0, 2.0, 1.0, 1e-8, 1e-8])
    assert rates("cosine", [5, 10, 11], warmup=10) == pytest.approx([1.0, 2.0, 1e-8]), "warm-up to the end"
    assert rates("linear", [5, 10, 11], warmup=10) == pytest.approx([1.0, 1e-8, 1e-8])
    assert rates("inverse_sqrt", [2, 4, 16], warmup=4) == pytest.approx([1.0, 2.0, 1.0])
    assert rates("constant", [0, 5, 99], warmup=0.2) == [2.0, 2.0, 2.0]


def test_inverse_sqrt_needs_a_warm_up():
    optimizer = DecayLastAdamW([nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=r"at least one update of warm-up; 0.01 of 50 updates"):
        learning_rate_scheduler(optimizer, 50, 0.01, "inverse_sqrt")


def test_polynomial_decay_of_fairseq_by_hand():
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = polynomial_scheduler(optimizer, warmup_steps=4, decay_steps=14)
    rates = []
    for _ in range(16):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    expected = [0, 0.5, 1, 1.5, 2, *(2 - 0.2 * number for number in range(1, 11)), 0]
    assert rates == pytest.approx(expected)
