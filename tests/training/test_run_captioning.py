"""
Captions are learnt from a folder; a resumed run ends with the same bits; two processes are one with the double batch;
evaluation continues after a kill.
"""

import json
import random
import shutil

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from hf_videolang.cli import main as command
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.batch_parts import BatchParts
from hf_videolang.evaluation.captioning import CaptioningEvaluator
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.metrics import captions as caption_metrics
from hf_videolang.training.run_captioning import main
from tests.common.captions import write_captions, write_java
from tests.common.moments import write_moments
from tests.common.tiny.hero import WORDS, tiny_processor, word_tokenizer
from tests.training.tiny_run import run_ranks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_captions(tmp_path_factory.mktemp("captions"))


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR takes seconds to start; its own test has it."""
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)


def words(folder, output) -> list[str]:
    options = {
        "model": folder / "model",
        "data_dir": folder / "data",
        "features": folder / "features",
        "output_dir": output,
        "select_on": "none",
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "report_to": "none",
        "logging_steps": 1,
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def run(folder, output, *more: str) -> int:
    return main([*words(folder, output), *more])


@pytest.fixture(scope="module")
def trained(folder):
    """Over-fitted on the captions of the training videos."""
    more = ["--max_steps", "60", "--learning_rate", "3e-3", "--per_device_train_batch_size", "9", "--test", "false"]
    assert run(folder, folder / "run", *more, "--label_smoothing", "0.05", "--context_subtitles", "1") == 0
    return folder / "run"


def score(model_folder, data, split="train", **options):
    model, processor = load_model_and_processor(str(model_folder))
    records, _ = find_dataset(str(data / "data")).load(split, need_videos=False)
    evaluator = CaptioningEvaluator(processor, FeatureStore(data / "features"), batch_size=4, **options)
    return evaluator, records, evaluator(model, records, Accelerator(cpu=True))["raw"]["captions"]


def test_captions_are_learnt_from_a_folder(folder, trained):
    evaluator, records, scores = score(trained, folder)
    references = [segment["captions"] for some in records["segments"] for segment in some]
    texts = [one["descs"][0]["desc"] for one in evaluator.predictions]
    shuffled = random.Random(0).sample(texts, len(texts))
    by_chance = caption_metrics.caption_metrics(shuffled, references)["CIDEr"]
    assert scores["CIDEr"] >= 5 * by_chance and scores["CIDEr"] > 100, (scores, by_chance, texts)
    assert json.loads((trained / "config.json").read_text())["label_smoothing"] == 0.05
    assert evaluator.settings["subtitles"] == "with 1 before each"
    assert evaluator.predictions[1]["ts"] == [6.0, 12.0]
    assert evaluator.settings["METEOR"] == "not measured (needs Java)"
    assert evaluator.settings["decoding"] == "the likeliest word each time, at most 30"
    assert evaluator.settings["CIDEr"] == f"word frequencies of the references of these {len(references)} clips"
    assert evaluator.settings["words"].startswith("NLTK's Treebank rule")


def test_evaluate_from_the_command_line(folder, trained, tmp_path, capsys):
    words = ["--model", str(trained), "--dataset", str(folder / "data"), "--features", str(folder / "features")]
    command_line = ["evaluate", *words, "--output-dir", str(tmp_path / "results"), "--num-workers", "0"]
    assert command(command_line) == 0
    printed = capsys.readouterr().out
    assert "3 videos, 9 clips" in printed and "CIDEr" in printed and "not measured (needs Java)" in printed
    lines = [json.loads(line) for line in (tmp_path / "results" / "captions.jsonl").read_text().splitlines()]
    assert [line["clip_id"] for line in lines] == list(range(9))
    assert {"vid_name", "clip_id", "ts", "descs"} == lines[0].keys()
    assert command(command_line[:-4]) == 0  # and without a folder
    assert command(["evaluate", *words[:4]]) == 2
    assert "captions are written from stored features; give their folder" in capsys.readouterr().err


def test_broken_java_is_told_before_the_training(folder, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()  # of `without_java`
    monkeypatch.setenv("PATH", write_java(tmp_path, "import sys; sys.exit('No virtual machine.')"))
    evaluating = ["--model", trained, "--dataset", folder / "data", "--features", folder / "features", "--cpu"]
    for status in (run(folder, tmp_path / "run"), command(["evaluate", *map(str, evaluating), "--num-workers", "0"])):
        assert status == 2
    told = "error: Java ended with code 1: No virtual machine. Repair Java, or take it off the PATH"
    assert capsys.readouterr().err.count(told) == 2 and not (tmp_path / "run").exists()


def test_a_killed_evaluation_continues(folder, trained, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    real, calls = BatchParts.write, []

    def write(parts, first, tensors):
        if calls:
            raise KilledError
        calls.append(first)
        real(parts, first, tensors)

    monkeypatch.setattr(BatchParts, "write", write)
    with pytest.raises(KilledError):
        score(trained, folder, folder=tmp_path)
    monkeypatch.setattr(BatchParts, "write", real)
    evaluator, _, scores = score(trained, folder, folder=tmp_path)
    assert evaluator.parts["captions"].missing == [4] and calls == [0]
    assert scores == score(trained, folder)[2]


def test_a_resumed_run_ends_with_the_same_bits(folder, tmp_path):
    steps = ["--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2", "--test", "false"]
    assert run(folder, tmp_path / "whole", *steps, "--item", "caption") == 0
    first = tmp_path / "resumed" / "checkpoint-2"
    first.parent.mkdir()
    (tmp_path / "whole" / "checkpoint-2").rename(first)
    assert run(folder, tmp_path / "resumed", *steps, "--item", "caption", "--resume_from_checkpoint", "true") == 0
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_two_processes_and_two_batches_are_one(folder, tmp_path):
    """No two captions have equally many words, so that a mean of the processes' means would be another."""
    shutil.copytree(folder / "data", tmp_path / "data")
    rows = [json.loads(line) for line in (folder / "data" / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["captions"] = [{**row["captions"][0], "text": "w1 w2 " * number + "w3"}]
    (tmp_path / "data" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = ["--data_dir", str(tmp_path / "data"), "--max_steps", "1", "--optim", "sgd", "--learning_rate", "0.1"]
    one += ["--lr_scheduler_type", "constant", "--test", "false", "--per_device_train_batch_size"]
    half = [*one, "1"]
    run_ranks(
        "hf_videolang.training.run_captioning", *words(folder, tmp_path / "processes"), *half, "--use_cpu", "true"
    )
    assert run(folder, tmp_path / "batches", *half, "--gradient_accumulation_steps", "2") == 0
    assert run(folder, tmp_path / "whole", *one, "2") == 0
    paths = folder / "model", *(tmp_path / name for name in ("whole", "processes", "batches"))
    first, expected, *others = (load_file(path / "model.safetensors") for path in paths)
    assert not torch.allclose(first["lm_head.dense.weight"], expected["lm_head.dense.weight"], atol=1e-3)
    for found in others:
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.usefixtures("columns_are_taken_whole")
def test_a_new_head_and_selection_by_cider(folder, tmp_path, capsys):
    write_moments(tmp_path / "moments")  # of its model, which finds moments
    tiny_processor(caption_tokenizer=word_tokenizer(WORDS[:-2])).save_pretrained(tmp_path / "moments" / "model")
    more = ["--model", str(tmp_path / "moments" / "model"), "--max_steps", "2", "--max_length", "3"]
    more += ["--eval_strategy", "steps", "--eval_steps", "2", "--select_on", "validation"]
    assert run(folder, tmp_path / "run", *more) == 0
    printed = capsys.readouterr().out
    assert "note: the head for captions is new." in printed
    assert "48 of 48 training captions are too long and are cut." in printed  # a tenth of the videos validates
    generation = json.loads((tmp_path / "run" / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == [len(WORDS) - 2, len(WORDS) - 1]  # the rows without a word
    assert generation["max_new_tokens"] == 30
    results = json.loads((tmp_path / "run" / "eval_results.json").read_text())
    assert results["evaluations"][0]["scores"]["raw"]["captions"].keys() >= {"CIDEr", "BLEU4", "clips"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--metric_for_best_model", "captions_CIDER"], None),
        (["--data_dir", "moments"], "a dataset for moment_retrieval, not of captions of segments; write them as"),
        (["--long_captions", "drop", "--max_length", "2"], "there is no caption to learn: 48 of 48 training captions"),
    ],
)
def test_what_does_not_fit_is_told(folder, tmp_path, capsys, more, message):
    if more[1] == "moments":
        more = ["--data_dir", str(write_moments(tmp_path / "moments") / "data")]
    if message is None:
        more += ["--load_best_model_at_end", "true", "--select_on", "validation"]
        message = "metric_for_best_model is 'captions_CIDER'; expected one of captions_CIDEr"
        more += ["--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "2", "--save_steps", "2"]
    assert run(folder, tmp_path / "run", *more) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_captions_finds_no_moments(folder, tmp_path, capsys):
    (video := tmp_path / "video00.mp4").touch()
    words = [str(video), "a", "--model", str(folder / "model")]
    assert command(["moments", *words, "--features", str(folder / "features")]) == 2
    expected = "is a HeroForVideoCaptioning, which finds no moments in videos; a HeroForVideoTextRetrieval does."
    assert expected in capsys.readouterr().err
