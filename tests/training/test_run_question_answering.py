"""Fine-tuning on questions by the real command: every head learns, kills and processes change nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForVisualQuestionAnswering

from hf_videolang.cli import main as hf_videolang
from hf_videolang.data import load_dataset
from hf_videolang.data.answer_vocabulary import count_answers, read_answers
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.training.question_answering_arguments import (
    QuestionAnsweringArguments,
    QuestionAnsweringTrainingArguments,
)
from hf_videolang.training.recipes import parse_recipe
from hf_videolang.training.run_question_answering import main
from tests.common.questions import WORDS, choices_of, save_model, write_question_folder, write_questions
from tests.training.tiny_run import run_ranks

MODULE = "hf_videolang.training.run_question_answering"
RECIPE = """
dataset: videofolder
select_on: none
test: false
train_split: train+validation
per_device_train_batch_size: 4
learning_rate: 2.0e-3
lr_scheduler_type: constant
optim: decay_last_adamw
num_train_epochs: 80
save_strategy: "no"
logging_steps: 10
report_to: none
disable_tqdm: true
"""


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    root = tmp_path_factory.mktemp("questions")
    write_question_folder(root / "folder")
    save_model(root / "base", None)
    (root / "recipe.yaml").write_text(RECIPE)
    return root


def words(questions, output, *more, folder="folder", model="base"):
    data = ["--model", questions / model, "--data_dir", questions / folder, "--output_dir", output]
    return [str(word) for word in (questions / "recipe.yaml", *data, *more)]


def ask_all(model, folder, capsys, *more):
    """The best answer for each colour, from the command."""
    found = {}
    for name in WORDS:
        command = ["ask", str(folder / f"{name}.mp4"), "what colour?", "--model", str(model), "--json", *more]
        assert hf_videolang(command) == 0
        found[name] = json.loads(capsys.readouterr().out.splitlines()[-1])["answers"][0]["answer"]
    return found


@pytest.mark.usefixtures("columns_are_taken_whole")
def test_an_answer_head_learns_from_a_folder(questions, tmp_path, capsys):
    assert main(words(questions, tmp_path / "run", "--num_clips", "2", "--sampling", "uniform")) == 0
    printed = capsys.readouterr().out
    assert "note: the head (open) is new, for 4 answers." in printed
    assert "train+validation: 4 of 4 questions have an answer that the model can give (4 answers)" in printed
    model = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "run")
    assert model.config.id2label == dict(enumerate(sorted(WORDS)))  # each once, so by the alphabet
    assert ask_all(tmp_path / "run", questions / "folder", capsys) == {name: name for name in WORDS}
    command = ["evaluate", "--model", tmp_path / "run", "--dataset", questions / "folder", "--split", "train"]
    options = ["--output-dir", tmp_path / "results", "--num-workers", "0", "--write-card", "--cpu"]
    assert hf_videolang([str(word) for word in (*command, *options)]) == 0
    line, table = capsys.readouterr().out.split("\n\n")
    assert "vocabulary: 4 answers; outside the vocabulary: 0 of 3 answers, counted as wrong" in line
    assert table.split()[:5] == ["raw", "chance", "overall", "accuracy", "100.0"]
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["scores"]["accuracy"] == 1 and results["scores"]["chance"]["overall"]["accuracy"] == 0.25
    assert (results["questions"], results["outside_vocabulary"], results["unanswered"]) == (3, 0, 0)
    predictions = (tmp_path / "results" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(one)["answer"] for one in predictions} <= set(WORDS)
    assert "100.0" in ModelCard.load(tmp_path / "run" / "README.md").text


@pytest.mark.parametrize("head", ["multiple_choice", "soft", "count"])
def test_the_other_heads_learn(questions, tmp_path, capsys, head):
    folder = write_question_folder(tmp_path / "folder")
    rows = {
        "multiple_choice": [choices_of(name) for name in WORDS],
        "soft": [{"file_name": f"{n}.mp4", "question": "what?", "answers": {n: 1.0, "none": 0.1}} for n in WORDS],
        "count": [{"file_name": f"{n}.mp4", "question": "?", "answer": 1 + i} for i, n in enumerate(WORDS)],
    }[head]
    write_questions(folder, rows)
    asked = ["--head", "count"] if head == "count" else []
    command = words(questions, tmp_path / "run", "--sampling", "uniform", *asked)
    command[command.index("--data_dir") + 1] = str(folder)
    assert main(command) == 0
    assert f"note: the head ({head}) is new" in capsys.readouterr().out
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    losses = [line["loss"] for line in history if "loss" in line]
    assert losses[-1] < losses[0]
    for row, expected in zip(rows, WORDS, strict=True):
        command = ["ask", str(folder / row["file_name"]), row["question"], "--model", str(tmp_path / "run")]
        assert hf_videolang([*command, *(["--choices", *WORDS] if head == "multiple_choice" else [])]) == 0
        best = capsys.readouterr().out.split("\n")[2]
        if head == "multiple_choice":
            assert best.endswith(f"%  {expected}")
        elif head == "soft":
            assert best.split()[1] in (*WORDS, "none")
        else:
            assert best.split()[0] in ("1", "2", "3", "4") and best.endswith("before rounding)")


def test_a_resumed_run_ends_with_the_same_bits(questions, tmp_path, capsys):
    """Clips are drawn at random, and a broken video is replaced."""
    folder = write_question_folder(tmp_path / "folder")
    rows = [{"file_name": f"{n}.mp4", "question": f"{q}?", "answer": n} for n in WORDS for q in ("what", "which")]
    (folder / "broken.mp4").write_bytes(b"no video")
    write_questions(folder, [*rows, {"file_name": "broken.mp4", "question": "?", "answer": "red"}])
    options = ["--num_clips", "2", "--on_broken_video", "replace", "--max_steps", "6", "--logging_steps", "1"]
    options += ["--save_strategy", "steps", "--save_steps", "3"]
    states = []
    for name, more in (("whole", []), ("resumed", ["--resume_from_checkpoint", str(tmp_path / "whole/checkpoint-3")])):
        command = words(questions, tmp_path / name, *options, *more)
        command[command.index("--data_dir") + 1] = str(folder)
        assert main(command) == 0
        states.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert json.loads((tmp_path / "whole" / "eval_results.json").read_text())["broken_videos"] > 0


def test_two_processes_equal_one_with_the_double_batch(questions, tmp_path):
    options = ["--num_clips", "2", "--max_steps", "3"]
    single = tmp_path / "single"
    assert main(words(questions, single, *options)) == 0
    run_ranks(MODULE, *words(questions, tmp_path / "double", *options, "--per_device_train_batch_size", "2"))
    one, two = (load_file(folder / "model.safetensors") for folder in (single, tmp_path / "double"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-5)


def test_the_vocabulary(questions, tmp_path):
    folder = write_question_folder(tmp_path / "folder")
    write_questions(
        folder, [{"file_name": "red.mp4", "question": "?", "answer": a} for a in ("b", "a", "c", "c", "d")]
    )
    records, _ = load_dataset(str(folder), split="train")
    assert count_answers(records) == ["c", "a", "b", "d"]
    assert count_answers(records, max_size=2) == ["c", "a"]
    assert count_answers(records, min_count=2) == ["c"]
    with pytest.raises(
        ValueError, match="the vocabulary of answers is empty: 5 questions have 4 different answers; min"
    ):
        count_answers(records, min_count=3)
    for name, text, expected in (
        ("answers.txt", "red\nblue\n", ["red", "blue"]),
        ("answers.json", '["red", "blue"]', ["red", "blue"]),
        ("ans2label.json", '{"blue": 2, "red": 0}', ["red", "unused_1", "blue"]),
    ):
        (tmp_path / name).write_text(text)
        assert read_answers(tmp_path / name) == expected
    for text in ("[]", '["a", "a"]', '{"a": 0, "b": 0}', '{"a": -1}'):
        (tmp_path / "answers.json").write_text(text)
        with pytest.raises(ValueError, match=r"answers.json is not in the layout of a list of answers"):
            read_answers(tmp_path / "answers.json")


def test_the_recipe_has_the_values_of_the_paper(tmp_path):
    types = (QuestionAnsweringArguments, QuestionAnsweringTrainingArguments)
    arguments, training, _ = parse_recipe(
        types, ["clipbert/my_questions", "--data_dir", "x", "--output_dir", str(tmp_path)]
    )
    assert (training.learning_rate, training.weight_decay, training.max_grad_norm) == (5e-5, 1e-3, 5.0)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-6)
    assert (training.lr_scheduler_type, training.warmup_steps, training.seed) == ("linear", 0.1, 42)
    assert (arguments.size, arguments.fps, arguments.num_frames, arguments.max_length) == (448, 2, 2, 100)
    assert (arguments.score_aggregation, training.num_train_epochs) == ("logsumexp", 10)


REFUSALS = {
    "choices missing": (["ask", "{video}", "?", "--model", "{multiple_choice}"], 2, "chooses among options"),
    "choices given": (["ask", "{video}", "?", "--model", "{open}", "--choices", "a", "b"], 2, "does not choose among"),
    "no question head": (
        ["ask", "{video}", "?", "--model", "{base}"],
        2,
        "train one with `python -m hf_videolang.tra",
    ),
    "no clips": (
        ["ask", "{video}", "?", "--model", "{open}", "--num-clips", "0"],
        2,
        "num_clips is 0; expected at le",
    ),
    "large grid": (["ask", "{video}", "?", "--model", "{large}"], 2, "a grid of 7 x 7 cells, but the position tables"),
    "large frames": (["train", "--size", "448"], 2, "a grid of 7 x 7 cells, but the position tables"),
    "many words": (["ask", "{video}", "?", "--model", "{wordy}"], 2, "a tokenizer of 98 words and a model of 97"),
    "broken video": (["ask", "{broken}", "?", "--model", "{open}"], 1, "broken.mp4"),
    "absent video": (["ask", "absent.mp4", "?", "--model", "{open}"], 1, "there is no such file"),
    "other answers": (
        ["train", "--model", "{three}", "--answers", "{answers}"],
        2,
        "one of 3 answers, the recipe has 4",
    ),
    "empty vocabulary": (["train", "--answers", '{{"min_count": 9}}'], 2, "the vocabulary of answers is empty"),
    "mistyped limit": (["train", "--answers", '{{"min_cnt": 9}}'], 2, "answers has min_cnt; expected min_count"),
    "one answer": (["train", "--answers", '{{"max_size": 1}}'], 2, "the only one is 'blue'"),
    "no such head": (["train", "--model", "{other_family}"], 2, "has no head 'open'"),
    "wrong aggregation": (["train", "--score_aggregation", "sum"], 2, "invalid choice: 'sum'"),
    "ranking": (
        ["train", "--model", "{ranking}", "--score_aggregation", "logsumexp"],
        2,
        "does not fit retrieval_loss",
    ),
}
EPOCH = ["--num_train_epochs", "1", "--per_device_train_batch_size", "2", "--on_broken_video", "replace"]
EPOCH += ["--logging_steps", "3"]
ON_MIXED = ["--dataset", "{mixed}", "--split", "train+validation", "--num-workers", "0", "--cpu"]
# The work goes on, and the output has each text once.
NOTES = {
    "wide video": (
        ["ask", "{wide}", "?", "--model", "{open}"],
        "a video of 96x16 pixels is beyond 5:1, which ClipBERT never saw in training.",
    ),
    "long question": (
        ["ask", "{video}", "what is it? what is it? what is it? what is it?", "--model", "{open}"],
        "questions are cut at max_length, 12 tokens.",
    ),
    "training": (
        ["train", "--data_dir", "{mixed}", *EPOCH],
        "Replacing a clip: cannot decode {wide}: 96x16 pixels are beyond an aspect ratio of 5:1",
        "Replacing a clip: cannot decode {mixed}/broken.mp4:",
        "'broken_videos': 2",
        "questions are cut at max_length, 12 tokens.",
        "'cut_questions': 3",  # the long one also replaces the two others
    ),
    "evaluation": (
        ["evaluate", "--model", "{open}", *ON_MIXED],
        "unanswered: 1 questions, counted as wrong; these videos do not decode: broken",
        "cut: 1 questions",
        "a video of 96x16 pixels is beyond 5:1",
    ),
    "new answers": (
        ["train", "--model", "{three}", "--answers", "new", *EPOCH],
        "note: the head (open) is new, for 4 answers.",
    ),
}
DRIVER = """
import contextlib, io, json, logging, sys
from hf_videolang.cli import main
from hf_videolang.training.run_question_answering import main as train
for command in json.load(sys.stdin):
    errors, output = io.StringIO(), io.StringIO()
    logging.Logger.warning_once.cache_clear()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        code = train(command[1:]) if command[0] == "train" else main(command)
    print(json.dumps([code, errors.getvalue(), output.getvalue()]))
"""


def test_bad_input_is_one_line(questions, tmp_path):
    """A refusal, or a note where the work goes on. All in one process, which is what takes the time."""
    from tests.common.tiny import clip_vip, clipbert

    places = {"video": questions / "folder" / "red.mp4", "base": questions / "base", "broken": tmp_path / "broken.mp4"}
    places["broken"].write_bytes(b"no video")
    for head in ("open", "multiple_choice"):
        places[head] = save_model(tmp_path / head, head)
    places["three"] = save_model(tmp_path / "three", answers=("red", "blue", "green"))
    places["large"] = save_model(tmp_path / "large", size={"longest_edge": 448})
    places["wordy"] = save_model(tmp_path / "wordy")
    wordy = clipbert.tiny_processor()
    wordy.tokenizer.add_tokens([f"word{number}" for number in range(98 - len(wordy.tokenizer))])
    wordy.save_pretrained(places["wordy"])
    clip_vip.tiny_model().save_pretrained(tmp_path / "other_family")
    clip_vip.tiny_processor().save_pretrained(tmp_path / "other_family")
    places["other_family"] = tmp_path / "other_family"
    clipbert.tiny_model(retrieval_loss="ranking").save_pretrained(tmp_path / "ranking")
    clipbert.tiny_processor().save_pretrained(tmp_path / "ranking")
    places["ranking"] = tmp_path / "ranking"
    places["answers"] = tmp_path / "answers.txt"
    places["answers"].write_text("\n".join(WORDS))
    places["mixed"] = write_question_folder(tmp_path / "mixed")
    places["wide"] = write_video(places["mixed"] / "wide.mp4", [np.zeros((16, 96, 3), np.uint8)] * 12)
    (places["mixed"] / "broken.mp4").write_bytes(b"no video")
    answers = {**dict(zip(WORDS, WORDS)), "wide": "red", "broken": "red"}
    rows = [{"file_name": f"{name}.mp4", "question": "what?", "answer": answer} for name, answer in answers.items()]
    rows[0]["question"] = "what is it? what is it? what is it? what is it?"
    write_questions(places["mixed"], rows)
    commands = []
    for command, *_ in (*REFUSALS.values(), *NOTES.values()):
        filled = [word.format(**places) for word in command]
        commands.append(
            ["train", *words(questions, tmp_path / "run"), *filled[1:]] if filled[0] == "train" else filled
        )
    result = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(commands), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found_lines = list(map(json.loads, result.stdout.splitlines()))
    for (name, (_, *texts)), (code, errors, output) in zip(NOTES.items(), found_lines[len(REFUSALS) :], strict=True):
        assert code == 0 and "Traceback" not in errors, (name, errors)
        for text in texts:
            assert (errors + output).count(text.format(**places)) == 1, (name, text, errors, output)
    for (name, (_, code, message)), (found, errors, _) in zip(REFUSALS.items(), found_lines):
        own = [one for one in errors.splitlines() if one and "Loading weights" not in one]
        assert found == code and message in errors, (name, found, errors)
        assert len(own) == 1 and "Traceback" not in errors, (name, errors)
