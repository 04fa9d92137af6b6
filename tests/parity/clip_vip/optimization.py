"""Kind `optimizer_schedule`: parameter groups, AdamW trajectory under clipping and schedule, schedule values."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

from hf_videolang.training.optimization import (
    DecayLastAdamW,
    learning_rate_at,
    learning_rate_scheduler,
    parameter_groups,
)
from tests.parity.cases import Case

SCHEDULE_NAMES = {"invsqrt": "inverse_sqrt"}


def check_optimizer_schedule(case: Case, tmp_path: Path) -> None:
    check_groups(case)
    check_trajectory(case)
    for setting in case.meta["schedules"]:
        check_schedule(setting)


def check_groups(case: Case) -> None:
    expected = case.meta["param_groups"]
    names = [name.removeprefix("clipmodel.") for group in expected for name in group["parameters"]]
    parameters = {name: Parameter(torch.zeros(() if name == "logit_scale" else 1)) for name in names}
    name_of = {parameter: name for name, parameter in parameters.items()}
    groups = parameter_groups(
        parameters.items(),
        learning_rate=expected[2]["lr"],
        weight_decay=expected[2]["weight_decay"],
        lr_multipliers={case.meta["lr_mul_prefix"]: case.meta["lr_mul"]},
    )
    found = DecayLastAdamW(groups, lr=expected[2]["lr"]).param_groups
    # The original has the multiplied groups first, and empty ones.
    for ours, original in zip(
        found, [group for group in expected[2:] + expected[:2] if group["parameters"]], strict=True
    ):
        assert [f"clipmodel.{name_of[parameter]}" for parameter in ours["params"]] == original["parameters"]
        assert math.isclose(ours["lr"], original["lr"], rel_tol=1e-12)
        assert ours["weight_decay"] == original["weight_decay"]
        assert (ours["eps"], list(ours["betas"])) == (original["eps"], original["betas"])


def check_trajectory(case: Case) -> None:
    setting = case.meta["adamw"]
    parameters = {name: Parameter(case.inputs[name].clone()) for name in ("weight", "bias")}
    optimizer = DecayLastAdamW(
        [
            {"params": [parameter], "weight_decay": setting[f"weight_decay_{name}"]}
            for name, parameter in parameters.items()
        ],
        lr=setting["base_lr"],
        betas=tuple(setting["betas"]),
        eps=setting["eps"],
    )
    scheduler = learning_rate_scheduler(optimizer, setting["num_train_steps"], setting["warmup_ratio"])
    assert len(setting["lr_per_step"]) == setting["num_train_steps"]
    for step, learning_rate in enumerate(setting["lr_per_step"], start=1):
        for name, parameter in parameters.items():
            parameter.grad = case.inputs[f"grad_{name}_{step}"].clone()
        torch.nn.utils.clip_grad_norm_(parameters.values(), setting["grad_norm"])
        assert math.isclose(optimizer.param_groups[0]["lr"], learning_rate, rel_tol=1e-9), step
        optimizer.step()
        scheduler.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(
                parameter.data, case.expected[f"{name}_{step}"], atol=case.tolerances["params_atol"], rtol=0
            )


def check_schedule(setting: dict) -> None:
    schedule = SCHEDULE_NAMES.get(setting["decay"], setting["decay"])
    for step, expected in zip(setting["step"], setting["lr"], strict=True):
        arguments = (
            step,
            setting["learning_rate"],
            setting["num_train_steps"],
            setting["warmup_ratio"],
            schedule,
        )
        if expected is None:  # the original divides by zero: no warm-up, step 0
            with pytest.raises(ZeroDivisionError):
                learning_rate_at(*arguments)
        else:
            assert math.isclose(learning_rate_at(*arguments), expected, rel_tol=1e-9), setting


CHECKS = {"optimizer_schedule": check_optimizer_schedule}
