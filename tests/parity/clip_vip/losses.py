"""Kinds `losses` and `losses_two_processes`: values and gradients of every objective of the original."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hf_videolang.losses import (
    OMNISOURCE_LOSSES,
    contrastive_loss,
    dual_softmax_loss,
    gather_features,
    hard_negative_loss,
    ranking_loss,
)
from tests.losses.processes import run_processes
from tests.parity.cases import Case

OMNISOURCE = {
    "VidImgDivideNCELearnableTempLoss": "vs_fc",
    "NCELearnableTempLoss_vs_vc": "vs_vc",
    "NCELearnableTempLoss_vs_vc_fc": "vs_vc_fc",
    "NCELearnableTempLoss_vsc": "vsc",
    "NCELearnableTempLoss_vsc_fc": "vsc_fc",
    "VidImgNCELearnableTempLoss": "joint",
}


def loss_of(name: str, features: dict[str, Tensor], temp: Tensor, fixed: dict) -> Tensor:
    """Our loss for a class of the original. `features` has vis, text, img, cap; `fixed` its constructor arguments."""
    video, text = features["vis"], features["text"]
    if name in OMNISOURCE:
        variant = OMNISOURCE[name]
        frame = [] if variant in ("vs_vc", "vsc") else [features["img"]]
        return OMNISOURCE_LOSSES[variant](video, text, *frame, features["cap"], temp)
    match name:
        case "NCELearnableTempLoss":
            return contrastive_loss(video, text, temp)
        case "NCELearnableTempDSLLoss":
            return dual_softmax_loss(video, text, temp)
        case "NCEContrastiveLoss":
            return contrastive_loss(video, text, -math.log(fixed["temp"]))
        case "HardNegLoss":
            return hard_negative_loss(video, text, fixed["hard_negative_num"])
        case "TripletContrastiveLoss":
            return ranking_loss(video, text, fixed["margin"], fixed["measure"], fixed["max_violation"])
    raise AssertionError(f"no loss of ours for {name}")


def check_losses(case: Case, tmp_path: Path) -> None:
    results = [key for key in case.expected if key.endswith("/loss")]
    assert results
    for key in results:
        chosen_set, name, _ = key.split("/")
        inputs = {**features_of(case, f"{chosen_set}/"), "temp": case.inputs[f"{chosen_set}/temp"]}
        compute = loss_and_gradients(name, case)
        got, doubt = compute(inputs), float32_doubt(compute, inputs)
        assert_agrees(got["loss"], case.expected[key], case, "loss", doubt["loss"], key)
        for leaf, gradient in got.items():
            expected = case.expected.get(f"{chosen_set}/{name}/grad_{leaf}")
            if expected is not None:
                assert_agrees(gradient, expected, case, "grad", doubt[leaf], f"{key} grad_{leaf}")
            elif leaf != "loss":
                assert not gradient.any(), f"{key}: {leaf} must not enter"


def check_losses_two_processes(case: Case, tmp_path: Path) -> None:
    world_size = len({key.split("/")[0] for key in case.inputs if key.startswith("rank")})
    run_processes(check_one_rank, world_size, tmp_path, case, world_size)


def check_one_rank(rank: int, case: Case, world_size: int) -> None:
    results = [key for key in case.expected if key.startswith(f"rank{rank}/") and key.endswith("/loss")]
    assert results
    everyone = [features_of(case, f"rank{other}/") for other in range(world_size)]
    own = {**everyone[rank], "temp": case.inputs["temp"]}
    joint = {source: torch.cat([features[source] for features in everyone]) for source in everyone[rank]}
    for key in results:
        name = key.split("/")[1]
        got = loss_and_gradients(name, case, gather_features)(own)
        doubt = float32_doubt(loss_and_gradients(name, case), {**joint, "temp": case.inputs["temp"]})
        assert_agrees(got["loss"], case.expected[key], case, "loss", doubt["loss"], key)
        expected_temp = case.expected[f"rank{rank}/{name}/grad_temp"]
        assert_agrees(got["temp"], expected_temp, case, "grad", doubt["temp"], f"{key} temp")
        for source, features in everyone[rank].items():
            rows = slice(rank * len(features), (rank + 1) * len(features))
            summed = case.expected.get(f"rank{rank}/{name}/grad_{source}_sum")
            if summed is not None:
                joint_doubt = world_size * doubt[source][rows]
                assert_agrees(got[source], summed, case, "grad", joint_doubt, f"{key} {source}")
            exact = case.expected.get(f"{name}/exact_grad_{source}_rank{rank}")
            if exact is not None:
                gradient = got[source] / world_size
                assert_agrees(gradient, exact, case, "grad", doubt[source][rows], f"{key} {source}")


def loss_and_gradients(
    name: str, case: Case, gather: Callable[[Tensor], Tensor] = lambda features: features
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A function from features and temp to "loss" and the gradient of each input, 0 for an unused one."""

    def compute(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = {key: tensor.clone().requires_grad_() for key, tensor in inputs.items()}
        features = {key: gather(tensor) for key, tensor in inputs.items() if key != "temp"}
        loss = loss_of(name, features, inputs["temp"], case.meta.get("fixed_parameters", {}).get(name, {}))
        loss.backward()
        gradients = {
            key: torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for key, tensor in inputs.items()
        }
        return {"loss": loss.detach(), **gradients}

    return compute


def float32_doubt(
    compute: Callable[[dict[str, Tensor]], dict[str, Tensor]], inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """
    How far a float32 result may be from the exact one: the change when the inputs move by four roundings.

    Some tolerances are finer than float32. At a scale of 100, the recorded gradients differ from those in float64 by
    more than their tolerance. There the order of summation decides, and it depends on the processor.
    """
    generator = torch.Generator().manual_seed(0)
    exact = compute({key: tensor.double() for key, tensor in inputs.items()})
    doubt = {key: torch.zeros_like(tensor) for key, tensor in exact.items()}
    for _ in range(16):
        moved = {}
        for key, tensor in inputs.items():
            signs = 2 * torch.randint(0, 2, tensor.shape, generator=generator) - 1
            moved[key] = tensor.double() * (1 + 4 * 2.0**-24 * signs)
        for key, tensor in compute(moved).items():
            doubt[key] = torch.maximum(doubt[key], (tensor - exact[key]).abs())
    return doubt


def assert_agrees(got: Tensor, expected: Tensor, case: Case, quantity: str, doubt: Tensor, where: str) -> None:
    """Within the case's tolerance of `quantity` ("loss", "grad"), plus the `doubt` of float32 itself."""
    tolerances = case.tolerances
    off = (got.double() - expected.double()).abs() - doubt
    allowed = tolerances[f"{quantity}_atol"] + tolerances.get(f"{quantity}_rtol", 0.0) * expected.abs()
    assert (off <= allowed).all(), f"{where} is off by up to {off.max():.3g} beyond float32; allowed {allowed}"


def features_of(case: Case, prefix: str) -> dict[str, Tensor]:
    """vis, text, img, cap of one set."""
    return {
        key.removeprefix(prefix).removesuffix("_feat"): value
        for key, value in case.inputs.items()
        if key.startswith(prefix) and key.endswith("_feat")
    }


CHECKS = {"losses": check_losses, "losses_two_processes": check_losses_two_processes}
