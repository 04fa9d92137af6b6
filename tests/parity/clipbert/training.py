"""Kinds `metrics` and `optimiser_and_schedule`: the original's evaluation and its updates."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

from hf_videolang.evaluation.question_answering import score_answers
from hf_videolang.metrics import accuracy, retrieval_metrics
from hf_videolang.training.optimization import DecayLastAdamW, learning_rate_at
from tests.parity.cases import Case

DIRECTIONS = {"text2video": "text_to_video", "video2text": "video_to_text"}
# The case also has multi_step, which no published run uses.
SCHEDULES = {"linear": "linear", "invsqrt": "inverse_sqrt", "constant": "constant"}


def check_metrics(case: Case, tmp_path: Path) -> None:
    tolerances = case.tolerances
    found = retrieval_metrics(case.inputs["one_to_one_scores"])
    scores, owner = case.inputs["multi_caption_scores"], case.inputs["multi_caption_owner"]
    last = [owner.tolist().index(video) + (owner == video).sum().item() - 1 for video in range(scores.shape[1])]
    assert all(owner[row] == video for video, row in enumerate(last))
    several = {
        "text2video": retrieval_metrics(scores, owner.tolist())["text_to_video"],
        # The original looks for the last caption of a video among all of them; ours for the best placed one.
        "video2text": retrieval_metrics(scores.T, last)["text_to_video"],
    }
    for direction, name in DIRECTIONS.items():
        for prefix, ours in (("one_to_one", found[name]), ("multi_caption", several[direction])):
            values = [100 * ours[metric] for metric in ("R1", "R5", "R10")] + [ours["MedianR"], ours["MeanR"]]
            expected = case.expected[f"{prefix}_{direction}"]
            torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), expected, **tolerances)
    expected = case.read_json()
    check_open_questions(expected["msrvtt_qa"])
    check_soft_answers(expected["vqa"])
    chosen = expected["tgif_action"]
    assert accuracy(chosen["predictions"], chosen["answers"]) == chosen["metrics"]["overall_acc"]


def check_open_questions(expected: dict) -> None:
    """An answer outside the vocabulary is wrong; scores of each type of question, with their number."""
    given = [expected["label2ans"][row] for row in expected["predictions"]]
    right = [{one["answer"]: 1.0} for one in expected["data"]]
    types = [one["answer_type"] for one in expected["data"]]
    check_groups(expected["metrics"], given, right, types, "accuracy")


def check_soft_answers(expected: dict) -> None:
    answers = {one["question_id"]: one["answer"] for one in expected["predictions"]}
    given = [answers[one["question_id"]] for one in expected["data"]]
    types = [one["answer_type"] for one in expected["data"]]
    check_groups(expected["metrics"], given, [one["labels"] for one in expected["data"]], types, "soft_accuracy")


def check_groups(metrics: dict, given: list, right: list, types: list, metric: str) -> None:
    is_soft = metric == "soft_accuracy"
    assert score_answers(given, right, is_soft=is_soft)[metric] == pytest.approx(metrics["overall_acc"])
    for name, (share, count) in metrics["ratios"].items():
        rows = [row for row, kind in enumerate(types) if kind == name.removesuffix("_ratio")]
        assert (len(rows), pytest.approx(len(rows) / len(given))) == (count, share)
        if rows:  # the original calls the accuracy of no questions 0; we do not list them
            found = score_answers([given[row] for row in rows], [right[row] for row in rows], is_soft=is_soft)
            assert found[metric] == pytest.approx(metrics[name.replace("_ratio", "_acc")])


def check_optimiser_and_schedule(case: Case, tmp_path: Path) -> None:
    expected = case.read_json()
    for setting in expected["lr_schedule"]:
        if setting["decay"] in SCHEDULES:
            for step, rate in zip(setting["steps"], setting["lr"], strict=True):
                plan = (setting["num_train_steps"], setting["warmup_ratio"], SCHEDULES[setting["decay"]])
                assert math.isclose(learning_rate_at(step, setting["learning_rate"], *plan), rate, rel_tol=1e-9)
    setting = expected["adamw"]
    parameters = [Parameter(case.inputs[f"param_{number}"].clone()) for number in range(3)]
    optimizer = DecayLastAdamW(
        [{"params": [one], "weight_decay": d} for one, d in zip(parameters, setting["weight_decay"], strict=True)],
        lr=setting["learning_rate"],
        betas=tuple(setting["betas"]),
        eps=setting["eps"],
    )
    for step in range(5):
        for number, parameter in enumerate(parameters):
            parameter.grad = case.inputs[f"grad_step{step}_{number}"].clone()
        for group in optimizer.param_groups:
            group["lr"] = setting["learning_rate"] * (step + 1) / 3
        optimizer.step()
        for number, parameter in enumerate(parameters):
            torch.testing.assert_close(parameter.data, case.expected[f"param_step{step}_{number}"], **case.tolerances)


CHECKS = {"metrics": check_metrics, "optimiser_and_schedule": check_optimiser_and_schedule}
