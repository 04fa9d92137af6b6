"""`hf-videolang evaluate`: the printed table, saved files, card, refusals, and several processes."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from hf_videolang.cli import main
from tests.training.tiny_run import run


def evaluate(*words) -> int:
    return main(["evaluate", *map(str, words)])


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory):
    """A model folder with its card, and the results of one process on the test split with a querybank."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(tiny_run / "model", folder / "model")
    what = (
        "--model",
        folder / "model",
        "--dataset",
        tiny_run / "videos",
        "--num-workers",
        0,
        "--num-frames",
        3,
    )
    assert (
        evaluate(*what, "--querybank", "train", "--querybank-size", 7, "--output-dir", folder, "--write-card")
        == 0
    )
    return folder


def test_files_and_card(evaluated):
    results, saved = (
        json.loads((evaluated / "results.json").read_text()),
        load_file(evaluated / "similarity.safetensors"),
    )
    assert {name: list(tensor.shape) for name, tensor in saved.items()} == {
        "similarity": [10, 5],
        "labels": [10],
        "text_bank": [14, 5],
        "video_bank": [7, 10],
    }
    for fact in (
        "test: 5 videos, 10 captions",
        "frames: 3",
        "uniform",
        "60 tokens",
        "ties: original",
        "DSL",
        "14 texts and 7 videos",
    ):
        assert fact in results["line"]
    assert set(results["scores"]) == {"raw", "DSL", "QB-Norm"} and results["settings"]["frames"] == 3
    # A literal count of the first recall, from the saved matrix.
    best = saved["similarity"].argmax(dim=1)
    assert results["scores"]["raw"]["text_to_video"]["R1"] == pytest.approx(
        (best == saved["labels"]).float().mean().item()
    )
    card = ModelCard.load(evaluated / "model" / "README.md")
    entered = [entry for entry in card.data.eval_results if entry.metric_name == "R@1 (raw)"]
    value = 100 * results["scores"]["raw"]["text_to_video"]["R1"]
    assert entered[0].metric_value == pytest.approx(value) and entered[0].dataset_args["frames"] == 3
    assert not list(evaluated.glob("*.partial"))


def test_saved_matrix_is_scored_again_without_the_model(evaluated, capsys):
    assert evaluate("--similarity", evaluated / "similarity.safetensors", "--ties", "original") == 0
    first = capsys.readouterr().out
    assert json.loads((evaluated / "results.json").read_text())["line"] in first
    assert "QB-Norm" in first and "text to video R1" in first
    assert evaluate("--similarity", evaluated / "similarity.safetensors", "--ties", "pessimistic") == 0
    assert "ties: pessimistic" in capsys.readouterr().out


def test_two_processes_score_every_item_once(tiny_run, evaluated, tmp_path):
    """5 videos in batches of 2 on 2 processes: the second process repeats rows, and none may count twice."""
    what = (
        "--model",
        tiny_run / "model",
        "--dataset",
        tiny_run / "videos",
        "--batch-size",
        2,
        "--num-frames",
        3,
    )
    output = run("hf_videolang.cli", "evaluate", *what, "--output-dir", tmp_path, "--cpu", processes=2)
    assert output.count("text to video R1") == 1
    one, two = load_file(evaluated / "similarity.safetensors"), load_file(tmp_path / "similarity.safetensors")
    assert torch.equal(one["labels"], two["labels"])
    torch.testing.assert_close(one["similarity"], two["similarity"], atol=1e-6, rtol=0)
    scores = [json.loads((folder / "results.json").read_text())["scores"] for folder in (evaluated, tmp_path)]
    assert scores[0]["raw"] == scores[1]["raw"] and scores[0]["DSL"] == scores[1]["DSL"]


def test_broken_video_stops_or_is_left_out(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run / "videos" / "test", tmp_path / "videos")
    (tmp_path / "videos" / "test0002.mp4").write_bytes(b"no video")
    what = ("--model", tiny_run / "model", "--dataset", tmp_path / "videos", "--num-workers", 0)
    assert evaluate(*what, "--split", "train+validation") == 1
    assert "test0002.mp4" in capsys.readouterr().err
    assert (
        evaluate(*what, "--split", "train+validation", "--on-broken-video", "skip", "--output-dir", tmp_path)
        == 0
    )
    assert "left out: 1 videos that do not decode" in capsys.readouterr().out
    assert load_file(tmp_path / "similarity.safetensors")["similarity"].shape == (8, 4)
    (tmp_path / "videos" / "test0002.mp4").unlink()
    assert evaluate(*what) == 1
    assert "1 of 5 annotated videos have no file: test0002" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model", "m"], "--dataset"),
        (["--similarity", "absent.safetensors"], "no file absent.safetensors"),
        (["--similarity", "x", "--num-frames", "3"], "num_frames already"),
        (["--model", "m", "--dataset", "msrvtt-1ka", "--querybank", "test"], "the split that is scored"),
        (["--model", "m", "--dataset", "msrvtt-9999", "--data-dir", "."], "Unknown data set"),
        (["--similarity", "x", "--write-card"], "--write-card needs --model"),
    ],
)
def test_wrong_usage_is_told_in_one_line(options, told, capsys):
    assert evaluate(*options) == 1
    error = capsys.readouterr().err
    assert told in error and error.startswith("hf-videolang evaluate: ") and error.count("\n") == 1


def test_a_foreign_matrix_is_refused(tmp_path, capsys):
    save_file({"similarity": torch.eye(3)}, tmp_path / "foreign.safetensors")
    assert evaluate("--similarity", tmp_path / "foreign.safetensors") == 1
    assert "expected a similarity.safetensors" in capsys.readouterr().err
    (tmp_path / "text.safetensors").write_text("no tensors")
    assert evaluate("--similarity", tmp_path / "text.safetensors") == 1
    assert "not a safetensors file" in capsys.readouterr().err
