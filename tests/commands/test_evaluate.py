"""`hf-videolang evaluate`: the printed table, saved files, card, refusals, and several processes."""

import errno
import json
import os
import shutil
import time

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hf_videolang.cli import main
from hf_videolang.data.stores.part_store import PartStore
from tests.common.hub_stand_in import metadata_errors
from tests.training.tiny_run import kill, run_ranks, start_ranks


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
    assert evaluate(*what, "--querybank", "train", "--querybank-size", 7, "--output-dir", folder, "--write-card") == 0
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
    moves = saved["video_bank"][:, 1::2]  # every second caption is "it moves"
    assert torch.equal(moves, moves[:, :1].expand_as(moves))
    for fact in (
        "test: 5 videos, 10 captions",
        "frames: 3",
        "uniform",
        "60 tokens",
        "ties: original",
        "DSL",
        "14 texts and 7 videos",
        "querybank: train",  # the split matters: an equally large bank of another one gives other numbers
    ):
        assert fact in results["line"]
    assert set(results["scores"]) == {"raw", "DSL", "QB-Norm", "chance"} and results["settings"]["frames"] == 3
    # A literal count of the first recall, from the saved matrix.
    best = saved["similarity"].argmax(dim=1)
    assert results["scores"]["raw"]["text_to_video"]["R1"] == pytest.approx(
        (best == saved["labels"]).float().mean().item()
    )
    card = ModelCard.load(evaluated / "model" / "README.md")
    entered = [entry for entry in card.data.eval_results if entry.metric_name == "R@1 (raw)"]
    value = 100 * results["scores"]["raw"]["text_to_video"]["R1"]
    assert entered[0].metric_value == pytest.approx(value) and entered[0].dataset_args["frames"] == 3
    assert entered[0].metric_args == {"post_processing": "raw", "chance": 20.0}
    assert entered[0].dataset_args["size"] == "5 videos, 10 captions, each a query of its own"
    assert sorted(file.name for file in evaluated.iterdir()) == [
        "model",
        "results.json",
        "similarity.safetensors",
    ]


def test_saved_matrix_is_scored_again_without_the_model(evaluated, capsys):
    assert evaluate("--similarity", evaluated / "similarity.safetensors", "--ties", "original") == 0
    first = capsys.readouterr().out
    assert json.loads((evaluated / "results.json").read_text())["line"] in first
    assert "QB-Norm" in first and "text to video R1" in first
    assert evaluate("--similarity", evaluated / "similarity.safetensors", "--ties", "pessimistic") == 0
    assert "ties: pessimistic" in capsys.readouterr().out


def test_results_of_another_protocol_are_not_overwritten_unasked(tiny_run, tmp_path, capsys):
    what = (
        "--model",
        tiny_run / "model",
        "--dataset",
        tiny_run / "videos",
        "--num-workers",
        0,
        "--output-dir",
        tmp_path,
    )
    assert evaluate(*what, "--num-frames", 2) == 0
    first = (tmp_path / "results.json").read_bytes()
    capsys.readouterr()
    assert evaluate(*what, "--num-frames", 1) == 2  # before the work
    error = capsys.readouterr().err
    assert "holds results of another protocol (frames: 2 there, 1 now)" in error and "--overwrite" in error
    assert "clip/s" not in error
    assert evaluate(*what, "--num-frames", 2, "--querybank", "train", "--querybank-size", 3) == 2  # known at its end
    matrix = ("--similarity", tmp_path / "similarity.safetensors", "--output-dir", tmp_path, "--ties", "average")
    assert evaluate(*matrix) == 2
    assert "ties: 'original' there, 'average' now" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_bytes() == first
    assert evaluate(*what, "--num-frames", 2) == 0 and (tmp_path / "results.json").read_bytes() == first
    assert evaluate(*what, "--num-frames", 1, "--overwrite") == 0
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["frames"] == 1


def test_embeddings_are_saved_in_place_of_a_large_matrix(tiny_run, evaluated, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_videolang.evaluation.retrieval.LARGEST_MATRIX", 1)
    monkeypatch.setattr("hf_videolang.metrics.product.PAIRS_IN_A_BLOCK", 12)  # 2 of 10 texts, 1 of 5 videos
    what = ("--model", tiny_run / "model", "--dataset", tiny_run / "videos", "--num-workers", 0, "--num-frames", 3)
    assert evaluate(*what, "--querybank", "train", "--querybank-size", 7, "--output-dir", tmp_path) == 0
    table = capsys.readouterr().out.split("\n\n")[1]
    saved = load_file(tmp_path / "similarity.safetensors")
    whole = load_file(evaluated / "similarity.safetensors")
    for name in ("similarity", "text_bank", "video_bank"):
        product = saved[f"{name}.left"] @ saved[f"{name}.right"].T
        torch.testing.assert_close(product, whole[name], atol=1e-6, rtol=0)
    scores = [json.loads((folder / "results.json").read_text())["scores"] for folder in (evaluated, tmp_path)]
    assert scores[0] == scores[1]
    assert evaluate("--similarity", tmp_path / "similarity.safetensors") == 0
    assert capsys.readouterr().out.split("\n\n")[1] == table


def test_two_processes_score_every_item_once(tiny_run, evaluated, tmp_path):
    """With 5 videos in batches of 2, the second process repeats rows. None may count twice."""
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
    outputs = run_ranks("hf_videolang.cli", "evaluate", *what, "--output-dir", tmp_path, "--cpu")
    assert [output.count("text to video R1") for output in outputs] == [1, 0]
    one, two = load_file(evaluated / "similarity.safetensors"), load_file(tmp_path / "similarity.safetensors")
    assert torch.equal(one["labels"], two["labels"])
    torch.testing.assert_close(
        one["similarity"], two["similarity"], atol=1e-6, rtol=0
    )  # in other batches the last bits differ
    scores = [json.loads((folder / "results.json").read_text())["scores"] for folder in (evaluated, tmp_path)]
    assert scores[0]["raw"] == scores[1]["raw"] and scores[0]["DSL"] == scores[1]["DSL"]


def test_a_killed_run_of_two_processes_continues_on_one_to_the_same_bits(tiny_run, tmp_path, monkeypatch, capsys):
    what = ["--model", tiny_run / "model", "--dataset", tiny_run / "videos", "--num-workers", 0, "--cpu"]
    what += ["--split", "train", "--batch-size", 1, "--querybank", "test"]
    assert evaluate(*what, "--output-dir", tmp_path / "unbroken") == 0
    out = tmp_path / "out"
    processes = start_ranks("hf_videolang.cli", "evaluate", *what, "--output-dir", out)
    deadline = time.monotonic() + 120
    while len(list(out.glob("embeddings/[!.]*.parquet"))) < 4 and time.monotonic() < deadline:
        assert processes[0].poll() is None, processes[0].communicate()[0]
        time.sleep(0.005)
    for process in processes:
        kill(process)
    there = {path.name for path in out.glob("embeddings/[!.]*.parquet")}
    assert 4 <= len(there) < 22 and not (out / "results.json").exists()

    capsys.readouterr()
    assert evaluate(*what, "--output-dir", out, "--num-frames", 2) == 2
    assert "frames: 4 there, 2 now" in capsys.readouterr().err
    assert evaluate(*(2 if word == 1 else word for word in what), "--output-dir", out) == 2
    assert "batch_size: 1 there, 2 now" in capsys.readouterr().err

    written, write = [], PartStore.write
    monkeypatch.setattr(PartStore, "write", lambda *args: written.append(f"{args[1]}.parquet") or write(*args))
    assert evaluate(*what, "--output-dir", out) == 0
    assert len(written) == 22 - len(there) + 5 and not there & set(written[: 22 - len(there)])
    assert (out / "results.json").read_bytes() == (tmp_path / "unbroken" / "results.json").read_bytes()
    one, two = (load_file(folder / "similarity.safetensors") for folder in (tmp_path / "unbroken", out))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert sorted(os.listdir(out)) == ["results.json", "similarity.safetensors"]


def test_a_full_disk_is_reported_and_finished_batches_are_kept(tiny_run, tmp_path, monkeypatch, capsys):
    what = [
        "--model",
        tiny_run / "model",
        "--dataset",
        tiny_run / "videos",
        "--num-workers",
        0,
        "--batch-size",
        1,
    ]
    write = PartStore.write

    def full_after_two(store, name, columns):
        if len(store.names()) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(store, name, columns)

    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "write", full_after_two)
        assert evaluate(*what, "--output-dir", tmp_path) == 2
    assert "No space left on device" in capsys.readouterr().err and len(list(tmp_path.glob("*/*.parquet"))) == 2
    assert evaluate(*what, "--output-dir", tmp_path) == 0


def test_broken_video_stops_or_is_left_out(tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run / "videos" / "test", tmp_path / "videos")
    (tmp_path / "videos" / "test0002.mp4").write_bytes(b"no video")
    what = ("--model", tiny_run / "model", "--dataset", tmp_path / "videos", "--num-workers", 0)
    assert evaluate(*what, "--split", "train+validation") == 1
    assert "test0002.mp4" in capsys.readouterr().err
    assert evaluate(*what, "--split", "train+validation", "--on-broken-video", "skip", "--output-dir", tmp_path) == 0
    assert "left out: 1 videos that do not decode" in capsys.readouterr().out
    whole = load_file(tmp_path / "similarity.safetensors")["similarity"]
    assert whole.shape == (8, 4)
    alone = (*what, "--split", "train+validation", "--on-broken-video", "skip", "--batch-size", 1)
    assert evaluate(*alone, "--output-dir", tmp_path) == 0  # all of its batch is broken
    again = load_file(tmp_path / "similarity.safetensors")["similarity"]
    torch.testing.assert_close(again, whole, atol=1e-6, rtol=0)
    (tmp_path / "videos" / "test0002.mp4").unlink()
    assert evaluate(*what) == 2
    error = capsys.readouterr().err
    assert "1 of 5 annotated videos have no file: test0002" in error and "With skip as on_broken_video" in error
    (tmp_path / "videos" / "test0003.mp4").write_bytes(b"no video")
    assert evaluate(*what, "--split", "train+validation", "--on-broken-video", "skip", "--output-dir", tmp_path) == 2
    assert "counts.videos: 5 there, 4 now" in capsys.readouterr().err  # another protocol than that of the results
    assert evaluate(*what, "--split", "train+validation", "--on-broken-video", "skip") == 0
    printed = capsys.readouterr().out
    assert "train+validation: 4 of 5 videos, 8 captions" in printed
    assert "left out: 1 videos that do not decode" in printed


def test_broken_video_in_a_worker_is_one_line(tiny_run, tmp_path, capsys):
    """A worker's exception reaches the main process as one string."""
    shutil.copytree(tiny_run / "videos" / "test", tmp_path / "videos")
    broken = tmp_path / "videos" / "test0002.mp4"
    broken.write_bytes(b"no video")
    what = ("--model", tiny_run / "model", "--dataset", tmp_path / "videos", "--split", "train+validation")
    lines = []
    for workers in (0, 2):
        assert evaluate(*what, "--num-workers", workers) == 1
        lines.append(capsys.readouterr().err.splitlines()[-1])
    assert lines[0] == lines[1] and lines[0].startswith(f"error: cannot decode {broken}: ")
    assert "--on-broken-video skip" in lines[0] and "hf-videolang data check" in lines[0]


def test_a_querybank_with_scored_videos_is_refused(tiny_run, capsys):
    what = ("--model", tiny_run / "model", "--dataset", tiny_run / "videos", "--split", "test+validation")
    assert evaluate(*what, "--querybank", "train+validation") == 2
    error = capsys.readouterr().err
    assert "the querybank holds 2 of the 7 videos that are scored" in error
    assert "clip/s" not in error  # nothing was encoded


def test_a_matrix_is_not_entered_into_the_card_of_another_model(tiny_run, evaluated, capsys):
    card = (evaluated / "model" / "README.md").read_text()
    matrix = ("--similarity", evaluated / "similarity.safetensors", "--write-card", "--model")
    assert evaluate(*matrix, tiny_run / "model") == 2
    assert f"computed with {evaluated / 'model'}, not with --model {tiny_run / 'model'}" in capsys.readouterr().err
    assert not (tiny_run / "model" / "README.md").exists()
    assert evaluate(*matrix, evaluated / ".." / evaluated.name / "model") == 0  # the same folder in other words
    assert (evaluated / "model" / "README.md").read_text() == card


def test_a_matrix_is_not_entered_into_the_card_after_more_training(tiny_run, tmp_path, capsys):
    model = shutil.copytree(tiny_run / "model", tmp_path / "model")
    half = ("--model", model, "--mixed-precision", "bf16")
    what = (*half, "--dataset", tiny_run / "videos", "--num-workers", 0, "--num-frames", 1)
    assert evaluate(*what, "--output-dir", model) == 0  # results beside the weights do not change the model
    assert "tokens; precision: bf16; ties" in capsys.readouterr().out
    matrix = (*half, "--similarity", model / "similarity.safetensors", "--write-card")
    weights = load_file(model / "model.safetensors")
    version = json.loads((model / "results.json").read_text())["version"]
    assert evaluate(*matrix) == 0 and version.startswith("sha256:")
    save_file({**weights, "logit_scale": weights["logit_scale"] + 1}, model / "model.safetensors")
    capsys.readouterr()
    assert evaluate(*matrix) == 2
    assert f"{model} has changed since the matrix was computed ({version} then" in capsys.readouterr().err


def test_a_model_that_gives_nan_is_one_line(tiny_run, tmp_path, capsys):
    model = shutil.copytree(tiny_run / "model", tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["text_projection.weight"].fill_(torch.nan)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert evaluate("--model", model, "--dataset", tiny_run / "videos", "--num-workers", 0) == 2
    assert "error: similarity is NaN for 50 pairs" in capsys.readouterr().err.splitlines()[-1]


def test_an_unreadable_card_is_reported_before_the_work(tiny_run, tmp_path, capsys):
    model = shutil.copytree(tiny_run / "model", tmp_path / "model")
    what = ("--model", model, "--dataset", tiny_run / "videos", "--write-card", "--output-dir", tmp_path)
    for text in ("---\na: [\n---\n", "---\nmodel-index: 3\n---\n"):
        (model / "README.md").write_text(text)
        assert evaluate(*what) == 2
        error = capsys.readouterr().err
        assert f"{model / 'README.md'} has metadata that cannot be read" in error and "clip/s" not in error
        assert (model / "README.md").read_text() == text


def test_results_of_two_folders_stand_side_by_side(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    for name in ("fa", "fb"):
        (tmp_path / name).symlink_to(tiny_run / "videos")
        what = ("--model", tmp_path / "model", "--dataset", tmp_path / name)
        assert evaluate(*what, "--num-workers", 0, "--num-frames", 1, "--write-card") == 0
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert {(entry.dataset_type, entry.dataset_name) for entry in card.data.eval_results} == {
        ("fa-videofolder", "fa (videofolder)"),
        ("fb-videofolder", "fb (videofolder)"),
    }
    assert not metadata_errors(card.content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "m"], "--dataset"),
        (["--similarity", "absent.safetensors"], "absent.safetensors does not exist"),
        (["--similarity", "x", "--num-frames", "3"], "num_frames already"),
        (["--model", "m", "--dataset", "msrvtt-1ka", "--querybank", "test"], "the split that is scored"),
        (["--model", "m", "--dataset", "msrvtt-9999", "--data-dir", "."], "No dataset"),
        (["--similarity", "x", "--write-card"], "--write-card needs --model"),
    ],
)
def test_wrong_usage_is_one_line(options, message, capsys):
    assert evaluate(*options) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_foreign_matrix_is_refused(tmp_path, capsys):
    save_file({"similarity": torch.eye(3)}, tmp_path / "foreign.safetensors")
    assert evaluate("--similarity", tmp_path / "foreign.safetensors") == 2
    assert "expected a similarity.safetensors" in capsys.readouterr().err
    (tmp_path / "text.safetensors").write_text("no tensors")
    assert evaluate("--similarity", tmp_path / "text.safetensors") == 2
    assert "cannot be scored (SafetensorError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, about: tensors["similarity"].fill_(torch.nan), "NaN for 50 pairs"),
        (lambda tensors, about: tensors.update(labels=tensors["labels"][1:]), "labels are [9] of int64"),
        (lambda tensors, about: tensors.update(labels=tensors["labels"] + 5), "unknown are [5, 6, 7]; expected"),
        (lambda tensors, about: tensors.update(text_bank=torch.zeros(3, 4)), "querybank_similarity [3, 4]"),
        (lambda tensors, about: tensors.pop("labels"), "expected a similarity.safetensors"),
        (lambda tensors, about: about.pop("version"), "expected a similarity.safetensors"),
        (lambda tensors, about: about.update(dataset="{}"), "expected a similarity.safetensors"),
        (lambda tensors, about: about.update(settings="["), "expected a similarity.safetensors"),
        (lambda tensors, about: about.update(settings="[1]"), "expected a similarity.safetensors"),
    ],
)
def test_an_unusable_matrix_is_one_line(evaluated, tmp_path, change, message, capsys):
    with safe_open(evaluated / "similarity.safetensors", "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors, about)
    save_file(tensors, tmp_path / "similarity.safetensors", about)
    assert evaluate("--similarity", tmp_path / "similarity.safetensors") == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
