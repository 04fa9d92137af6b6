"""The optimisation of the original scripts (clip_vip §4, videoclip §5.5): parameter groups, AdamW, schedules."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_polynomial_decay_schedule_with_warmup

# Only norms of this name escape decay. CLIP calls its norms layer_norm1, pre_layrnorm, …: their gains are decayed.
NO_DECAY = ("bias", "LayerNorm.weight")
LOWEST_LEARNING_RATE = 1e-8
SCHEDULES = ("cosine", "linear", "inverse_sqrt", "constant")  # the Trainer's names (`lr_scheduler_type`)


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: not to biases, to `LayerNorm.weight`, or to parameters without dimensions."""
    return parameter.ndim > 0 and not any(part in name for part in NO_DECAY)


def parameter_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    learning_rate: float,
    weight_decay: float,
    lr_multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """
    The parameters that are trained, grouped by learning rate and by weight decay (see [`is_decayed`]).

    Args:
        named_parameters: `model.named_parameters()`.
        learning_rate (`float`): the rate of parameters without a factor.
        weight_decay (`float`): the decay of the groups with decay; the others have 0.
        lr_multipliers (`dict[str, float]`, *optional*): part of a name -> factor on the learning rate. The first part
            that a parameter's name contains decides. `""` is part of every name, so `{"encoder": 1, "": 10}`
            multiplies all but the encoder. The original's `lr_mul` and `lr_mul_prefix` are `{lr_mul_prefix: lr_mul}`.

    Returns:
        `list[dict]` of `params`, `lr` and `weight_decay`, for any torch optimiser. Groups with factor 1 come first,
        because the Trainer logs the rate of the first group. Empty groups, which FSDP2 cannot save, are left out.

    Raises:
        ValueError: no name contains one of the parts.

    Example:
        >>> groups = parameter_groups(model.named_parameters(), 1e-6, 0.2, {"logit_scale": 10})
    """
    multipliers = dict(lr_multipliers or {})
    named = list(named_parameters)
    for part in multipliers:
        if not any(part in name for name, _ in named):
            raise ValueError(f"lr_multipliers has {part!r}; expected part of the name of a parameter.")
    groups: dict[tuple[float, float], list[Parameter]] = {
        (factor, decay): [] for factor in (1.0, *multipliers.values()) for decay in (weight_decay, 0.0)
    }
    for name, parameter in named:
        if parameter.requires_grad:
            factor = next((factor for part, factor in multipliers.items() if part in name), 1.0)
            groups[factor, weight_decay if is_decayed(name, parameter) else 0.0].append(parameter)
    return [
        {"params": parameters, "lr": factor * learning_rate, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
        if parameters
    ]


class DecayLastAdamW(Optimizer):
    """
    AdamW in the order of the original scripts: it takes the step first and then decays the updated value.

    `p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`, **then** `p -= lr * weight_decay * p`.
    `torch.optim.AdamW` decays first and adds eps after the bias correction of v. The state has the names of
    `torch.optim.AdamW` (`step`, `exp_avg`, `exp_avg_sq`), so either optimiser can continue a run of the other.

    Args:
        params: parameters or groups, see [`parameter_groups`].
        lr (`float`, defaults to 1e-6): learning rate; if groups set their own, the base of the schedule.
        betas (`tuple[float, float]`, defaults to `(0.9, 0.98)`), eps (`float`, defaults to 1e-6): as published.
        weight_decay (`float`, defaults to 0.0): for groups that do not set their own.

    Example:
        >>> optimizer = DecayLastAdamW(parameter_groups(model.named_parameters(), 1e-6, 0.2), lr=1e-6)
    """

    def __init__(
        self,
        params,
        lr: float = 1e-6,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for state in self.state.values():
            # A launch with several processes loads a checkpoint to the GPUs. Reading a count from there would make
            # every update wait.
            state["step"] = state["step"].cpu()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            # One kernel updates all tensors of equal device, type and age: usually the whole group.
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
                    alike[kind].append(tuple(map(_local, tensors)))
            for (device, _, step), rows in alike.items():
                self._update(group, step, device, *(list(column) for column in zip(*rows)))
        return loss

    def _update(self, group: dict[str, Any], step: int, device: torch.device, *tensors: list[Tensor]) -> None:
        """`tensors` are lists of parameters, gradients, first moments and second moments."""
        # torch's fused AdamW: p = (1 - lr w) p - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps). With
        # eps / sqrt(1 - b2^t) for eps, its second term is the original's step. Decay after the step also multiplies
        # this step by the kept share 1 - lr w. So we pass a learning rate of (1 - lr w) lr, and a decay of
        # w / (1 - lr w): their product, and with it the first term, stays.
        beta1, beta2 = group["betas"]
        kept = 1 - group["lr"] * group["weight_decay"]
        parameters, gradients, first_moments, second_moments = tensors
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


def _local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that this process holds; the update treats every element alone."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def learning_rate_at(
    step: int, learning_rate: float, num_training_steps: int, warmup: float, schedule: str = "cosine"
) -> float:
    """
    The learning rate of an update in the original scripts, never below 1e-8. Original: `get_lr_sched`.

    Args:
        step (`int`): number of the update, **1 for the first**.
        learning_rate (`float`): the highest rate.
        num_training_steps (`int`): all updates of the run.
        warmup (`float`): updates of linear warm-up; below 1 a share of `num_training_steps`, rounded down.
        schedule (`str`, defaults to `"cosine"`): one of `SCHEDULES`.
    """
    warmup_steps = int(warmup * num_training_steps if warmup < 1 else warmup)
    decay_steps = max(1, num_training_steps - warmup_steps)
    if schedule == "constant":  # without a warm-up
        share = 1.0
    elif step < warmup_steps:
        share = step / warmup_steps
    elif schedule == "inverse_sqrt":
        share = math.sqrt(warmup_steps / step)
    elif schedule == "linear":
        share = (num_training_steps - step) / decay_steps
    else:  # half a cosine, which rises again after the last step, as in the original
        share = 0.5 * (1 + math.cos(math.pi * ((step - warmup_steps) / decay_steps)))
    return learning_rate * share if share > 0 else LOWEST_LEARNING_RATE


def learning_rate_scheduler(
    optimizer: Optimizer, num_training_steps: int, warmup: float, schedule: str = "cosine"
) -> LambdaLR:
    """
    A torch scheduler that gives every update the rate of [`learning_rate_at`]. Call `step()` after `optimizer.step()`.

    torch counts the updates that are done, and the original counts the one that comes. The base rate is the
    optimiser's default `lr`; groups with another rate keep their ratio to it. Arguments as in [`learning_rate_at`].

    Raises:
        ValueError: `"inverse_sqrt"` without a step of warm-up, which would train at 1e-8 throughout.

    Example:
        >>> scheduler = learning_rate_scheduler(optimizer, num_training_steps=7000, warmup=0.01)
    """
    base = optimizer.defaults["lr"]
    if schedule == "inverse_sqrt" and int(warmup * num_training_steps if warmup < 1 else warmup) < 1:
        raise ValueError(
            f"inverse_sqrt needs at least one update of warm-up; {warmup} of {num_training_steps} updates is less. "
            "Set warmup_steps."
        )
    return LambdaLR(
        optimizer, lambda done: learning_rate_at(done + 1, base, num_training_steps, warmup, schedule) / base
    )


def polynomial_scheduler(optimizer: Optimizer, warmup_steps: int, decay_steps: int = 1_000_000) -> LambdaLR:
    """
    fairseq's polynomial decay of power 1 (videoclip A5): after u updates, the factor of the rate is u / warmup_steps
    until the end of the warm-up, and then 1 - (u - warmup_steps) / (decay_steps - warmup_steps).

    So the first update has rate 0. The Trainer's own "polynomial" ends with the run; this one ends after `decay_steps`
    updates, however long the run is.

    Example:
        >>> scheduler = polynomial_scheduler(optimizer, warmup_steps=122)
    """
    return get_polynomial_decay_schedule_with_warmup(optimizer, warmup_steps, decay_steps, lr_end=0.0)
