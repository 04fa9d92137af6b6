"""Kinds `losses` and `losses_two_processes`: values and gradients of every objective of the original."""

import math
from pathlib import Path

import torch
from torch import Tensor

from hf_videolang.losses import (
    contrastive_loss,
    dual_softmax_loss,
    gather_features,
    hard_negative_loss,
    omnisource_loss,
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


# The absolute tolerances are finer than float32 itself where a loss or grad_temp is near 100: four roundings are
# always allowed, so that another processor's order of summation does not fail the case.
ROUNDINGS = 4 * torch.finfo(torch.float32).eps


def loss_of(name: str, features: dict[str, Tensor], temp: Tensor, fixed: dict) -> Tensor:
    """Our loss for the original's class name; `features` has vis, text, img, cap; `fixed` its constructor arguments."""
    video, text = features["vis"], features["text"]
    if name in OMNISOURCE:
        return omnisource_loss(video, text, features.get("img"), features["cap"], temp, OMNISOURCE[name])
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
    value = {"atol": case.tolerances["loss_atol"], "rtol": ROUNDINGS}
    gradient = {"atol": case.tolerances["grad_atol"], "rtol": case.tolerances["grad_rtol"]}
    results = [key for key in case.expected if key.endswith("/loss")]
    assert results
    for key in results:
        chosen_set, name, _ = key.split("/")
        features = leaves(case, f"{chosen_set}/")
        temp = case.inputs[f"{chosen_set}/temp"].clone().requires_grad_()
        loss = loss_of(name, features, temp, case.meta["fixed_parameters"].get(name, {}))
        loss.backward()
        torch.testing.assert_close(loss.detach(), case.expected[key], **value, msg=hint(key))
        for leaf, tensor in {**features, "temp": temp}.items():
            expected = case.expected.get(f"{chosen_set}/{name}/grad_{leaf}")
            if expected is None:
                assert tensor.grad is None or not tensor.grad.any(), f"{key}: {leaf} must not enter"
            else:
                torch.testing.assert_close(tensor.grad, expected, **gradient, msg=hint(f"{key} grad_{leaf}"))


def check_losses_two_processes(case: Case, tmp_path: Path) -> None:
    world_size = len({key.split("/")[0] for key in case.inputs if key.startswith("rank")})
    run_processes(check_one_rank, world_size, tmp_path, case, world_size)


def check_one_rank(rank: int, case: Case, world_size: int) -> None:
    value = {"atol": case.tolerances["loss_atol"], "rtol": ROUNDINGS}
    gradient = {"atol": case.tolerances["grad_atol"], "rtol": case.tolerances.get("grad_rtol", ROUNDINGS)}
    results = [key for key in case.expected if key.startswith(f"rank{rank}/") and key.endswith("/loss")]
    assert results
    for key in results:
        name = key.split("/")[1]
        features, temp = leaves(case, f"rank{rank}/"), case.inputs["temp"].clone().requires_grad_()
        gathered = {source: gather_features(tensor) for source, tensor in features.items()}
        loss = loss_of(name, gathered, temp, case.meta.get("fixed_parameters", {}).get(name, {}))
        loss.backward()
        torch.testing.assert_close(loss.detach(), case.expected[key], **value, msg=hint(key))
        expected_temp = case.expected[f"rank{rank}/{name}/grad_temp"]
        torch.testing.assert_close(temp.grad, expected_temp, **gradient, msg=hint(f"{key} temp"))
        for source, tensor in features.items():
            summed = case.expected.get(f"rank{rank}/{name}/grad_{source}_sum")
            if summed is not None:
                torch.testing.assert_close(tensor.grad, summed, **gradient, msg=hint(f"{key} {source}"))
            exact = case.expected.get(f"{name}/exact_grad_{source}_rank{rank}")
            if exact is not None:
                torch.testing.assert_close(
                    tensor.grad / world_size, exact, **gradient, msg=hint(f"{key} {source}")
                )


def leaves(case: Case, prefix: str) -> dict[str, Tensor]:
    """Fresh leaf tensors vis, text, img, cap of one set."""
    return {
        key.removeprefix(prefix).removesuffix("_feat"): value.clone().requires_grad_()
        for key, value in case.inputs.items()
        if key.startswith(prefix) and key.endswith("_feat")
    }


def hint(where: str):
    return lambda message: f"{where}: {message}"


CHECKS = {"losses": check_losses, "losses_two_processes": check_losses_two_processes}
