"""Optimisation as in the original CLIP-ViP scripts (clip_vip §4): parameter groups, AdamW, learning-rate schedules."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# CLIP's own norms are called layer_norm1, pre_layrnorm, …: none matches, so LayerNorm gains *are* decayed.
NO_DECAY = ("bias", "LayerNorm.bias", "LayerNorm.weight", "logit_scale")
LOWEST_LEARNING_RATE = 1e-8


def parameter_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    learning_rate: float,
    weight_decay: float,
    lr_multiplier: float = 1.0,
    lr_multiplier_name: str = "",
) -> list[dict[str, Any]]:
    """
    The groups of the original: rest with decay, rest without, multiplied with decay, multiplied without.

    The original lists the multiplied first and keeps empty groups. Here the rest comes first, since Trainer logs the
    rate of the first group, and groups without a parameter are left out, since checkpoints of FSDP2 cannot hold two.
    No decay for names that contain `bias`, `LayerNorm.bias`, `LayerNorm.weight` or `logit_scale`. Parameters that need
    no gradient are left out.

    Args:
        named_parameters: `model.named_parameters()`.
        learning_rate (`float`), weight_decay (`float`): of the rest groups, and of the groups with decay.
        lr_multiplier (`float`, defaults to 1.0): factor on the learning rate of the multiplied groups.
        lr_multiplier_name (`str`, defaults to `""`): parameters whose name contains this are multiplied
            (`lr_mul_prefix`: published value `logit_scale`); empty for none.

    Returns:
        `list[dict]` of `params`, `lr`, `weight_decay`, for any torch optimiser.
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": rate, "weight_decay": decay}
        for rate in (learning_rate, lr_multiplier * learning_rate)
        for decay in (weight_decay, 0.0)
    ]
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            multiplied = bool(lr_multiplier_name) and lr_multiplier_name in name
            decayed = not any(part in name for part in NO_DECAY)
            groups[2 * multiplied + (not decayed)]["params"].append(parameter)
    return [group for group in groups if group["params"]]


class DecayLastAdamW(Optimizer):
    """
    AdamW in the update order of the original scripts (and of BERT's time): step first, decay the updated value after.

    `p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`, **then** `p -= lr * weight_decay * p`.
    `torch.optim.AdamW` decays first and adds eps after the bias correction of v. State and its names (`step`,
    `exp_avg`, `exp_avg_sq`) are those of `torch.optim.AdamW`, so a run can be continued with either.

    Args:
        params: parameters or groups, see [`parameter_groups`].
        lr (`float`, defaults to 1e-6): learning rate; with groups that set their own, the base of the schedule.
        betas (`tuple[float, float]`, defaults to `(0.9, 0.98)`), eps (`float`, defaults to 1e-6),
        weight_decay (`float`, defaults to 0.0): as published; the decay is set in the groups.
    """

    def __init__(
        self,
        params,
        lr: float = 1e-6,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        if lr <= 0 or eps <= 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"lr={lr}, betas={betas}, eps={eps}, weight_decay={weight_decay}; expected lr and eps above 0, "
                "weight_decay of at least 0, betas from 0 to below 1."
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for state in self.state.values():
            # Several processes read a checkpoint straight to their GPUs, and each update would wait for each number.
            state["step"] = state["step"].cpu()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # One kernel for all tensors of a device and type that are equally many steps old: as a rule, all.
            alike: defaultdict[tuple, list[tuple[Tensor, ...]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if not state:
                        state["step"] = torch.tensor(0.0)
                        state["exp_avg"] = torch.zeros_like(parameter)
                        state["exp_avg_sq"] = torch.zeros_like(parameter)
                    state["step"] += 1
                    kind = parameter.device, parameter.dtype, int(state["step"])
                    tensors = parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"]
                    alike[kind].append(tuple(map(_own_part, tensors)))
            for (device, _, step), rows in alike.items():
                self._update(group, step, device, *[list(column) for column in zip(*rows)])
        return loss

    def _update(
        self,
        group: dict[str, Any],
        step: int,
        device: torch.device,
        parameters: list[Tensor],
        gradients: list[Tensor],
        first_moments: list[Tensor],
        second_moments: list[Tensor],
    ) -> None:
        # torch's fused AdamW: p = (1 - lr w) p - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps). With
        # eps / sqrt(1 - b2^t) for eps its second term is the original's step. Decaying after the step, not before,
        # multiplies this step, too, by the kept share 1 - lr w: that is a learning rate of (1 - lr w) lr, and a decay
        # of w / (1 - lr w), so that their product, and with it the first term, stays.
        beta1, beta2 = group["betas"]
        kept = 1 - group["lr"] * group["weight_decay"]
        torch._fused_adamw_(
            parameters,
            gradients,
            first_moments,
            second_moments,
            [],
            [torch.full((), step, dtype=torch.float32, device=device)] * len(parameters),
            lr=group["lr"] * kept,
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"] / kept,
            eps=group["eps"] / math.sqrt(1 - beta2**step),
            amsgrad=False,
            maximize=False,
        )


def _own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a sharded tensor; every element is updated by itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cosine_schedule(step: int, num_training_steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then half a cosine from 1 to 0; beyond `num_training_steps` it rises again, as the original's."""
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, num_training_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear_schedule(step: int, num_training_steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then a line down to 0 at `num_training_steps`."""
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (num_training_steps - step) / max(1, num_training_steps - warmup_steps))


def inverse_square_root_schedule(step: int, num_training_steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then `sqrt(warmup_steps / step)` without an end; it is 0 if there is no warm-up."""
    if step <= warmup_steps:
        return step / warmup_steps
    return math.sqrt(warmup_steps / step)


def constant_schedule(step: int, num_training_steps: int, warmup_steps: int) -> float:
    """1 from the first step, without warm-up."""
    return 1.0


def multi_step_schedule(step: int, milestones: Sequence[int], gamma: float = 0.5) -> float:
    """`gamma` to the number of milestones (in steps) that lie behind. The original's power jumps by two at the last."""
    return gamma ** sum(step >= milestone for milestone in milestones)


SCHEDULES = {
    "cosine": cosine_schedule,
    "linear": linear_schedule,
    "inverse_square_root": inverse_square_root_schedule,
    "constant": constant_schedule,
}


def learning_rate_at(
    step: int,
    learning_rate: float,
    num_training_steps: int,
    warmup: float = 0.01,
    schedule: str = "cosine",
    milestones: Sequence[int] = (),
) -> float:
    """
    The learning rate of the original at its step counter, never below 1e-8. Original: `get_lr_sched`.

    Args:
        step (`int`): optimiser steps, **1 for the first update**.
        learning_rate (`float`): the highest rate.
        num_training_steps (`int`): updates in all.
        warmup (`float`, defaults to 0.01): below 1 a share of `num_training_steps` (rounded down), else steps.
        schedule (`str`, defaults to `"cosine"`): `"cosine"`, `"linear"`, `"inverse_square_root"`, `"constant"` or
            `"multi_step"`; the last two know no warm-up.
        milestones (sequence of `int`, defaults to none): steps at which `"multi_step"` halves the rate.

    Raises:
        ValueError: unknown schedule.
    """
    if schedule == "multi_step":
        factor = multi_step_schedule(step, milestones)
    elif schedule in SCHEDULES:
        warmup_steps = int(warmup * num_training_steps if warmup < 1 else warmup)
        factor = SCHEDULES[schedule](step, num_training_steps, warmup_steps)
    else:
        raise ValueError(f"schedule is {schedule!r}; expected one of {', '.join([*SCHEDULES, 'multi_step'])}.")
    rate = learning_rate * factor
    return rate if rate > 0 else LOWEST_LEARNING_RATE


def learning_rate_scheduler(
    optimizer: Optimizer,
    num_training_steps: int,
    warmup: float = 0.01,
    schedule: str = "cosine",
    milestones: Sequence[int] = (),
) -> LambdaLR:
    """
    A scheduler that gives every update the rate the original gave it, when `step()` follows `optimizer.step()`.

    The original sets the rate *before* an update, its counter at 1 for the first; torch has the scheduler one step
    behind, at 0. The base is the optimiser's default `lr`; groups with another keep their ratio to it.

    Arguments and errors as in [`learning_rate_at`].

    Raises:
        ValueError: `"inverse_square_root"` without a step of warm-up, which would train at 1e-8 throughout.
    """
    base = optimizer.defaults["lr"]
    arguments = (base, num_training_steps, warmup, schedule, milestones)
    if schedule == "inverse_square_root" and int(warmup * num_training_steps if warmup < 1 else warmup) < 1:
        raise ValueError(
            f"warmup is {warmup} of {num_training_steps} steps, less than one step, and 'inverse_square_root' starts "
            "from the end of the warm-up; give it at least one step."
        )
    return LambdaLR(optimizer, lambda done: learning_rate_at(done + 1, *arguments) / base)
