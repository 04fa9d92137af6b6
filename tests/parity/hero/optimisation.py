"""Parameter groups, AdamW trajectory and learning rates of the original."""

import math
from pathlib import Path

import torch
from torch.nn import Parameter

from hf_videolang.conversion.hero.layouts import find_layout
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.training.optimization import DecayLastAdamW, learning_rate_at, parameter_groups
from tests.common.tiny.hero import tiny_config
from tests.parity.cases import Case


def check_optimiser(case: Case, tmp_path: Path) -> None:
    expected = case.read_json("groups.json")
    where = {name: number for number, group in enumerate(expected) for name in group["names"]}
    layout = find_layout(where)
    found = set()
    heads = {"hero.": 1, "": 10}
    for model_class, multipliers in (
        (HeroForVideoTextRetrieval, heads),
        (HeroForMultipleChoice, heads),
        (HeroForVideoCaptioning, {"lm_head.": 1, **heads}),  # the original's lies in the encoder
    ):
        config = tiny_config()
        config.cross_modal_config.num_hidden_layers = 3
        model = model_class(config)
        name_of = {parameter: layout.origin(name)[0] for name, parameter in model.named_parameters()}
        for group in parameter_groups(model.named_parameters(), 1e-4, 0.01, multipliers):
            for parameter in group["params"]:
                original = expected[where[name_of[parameter]]]
                assert math.isclose(group["lr"], original["lr"]), name_of[parameter]
                assert group["weight_decay"] == original["weight_decay"], name_of[parameter]
                found.add(name_of[parameter])
    assert all(layout.drop_reason(name) for name in where.keys() - found), where.keys() - found

    parameters = {kind: Parameter(case.inputs[f"init_{kind}"].clone()) for kind in ("decay", "no_decay")}
    groups = [
        {"params": [parameter], "weight_decay": 0.01 if kind == "decay" else 0.0}
        for kind, parameter in parameters.items()
    ]
    optimizer = DecayLastAdamW(groups, lr=0.05, betas=(0.9, 0.98), eps=1e-6)
    for step in range(len(case.inputs["grads_decay"])):
        for kind, parameter in parameters.items():
            parameter.grad = case.inputs[f"grads_{kind}"][step].clone()
        optimizer.step()
        for kind, parameter in parameters.items():
            torch.testing.assert_close(parameter.data, case.expected[f"param_{kind}"][step], **case.tolerances)
    for step, rate in case.read_json("schedule.json").items():
        assert math.isclose(learning_rate_at(int(step), 1e-4, 500, 50, "linear"), rate, rel_tol=1e-9), step


CHECKS = {"optimiser": check_optimiser}
