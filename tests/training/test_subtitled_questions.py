"""Questions about subtitled videos go through the same rooms as all questions: train, evaluate, ask."""

import json
import shutil

import numpy as np
import pytest
import torch

from hf_videolang.cli import main as command
from hf_videolang.data.batches.question_answering import QuestionAnsweringCollator
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.models.hero.modeling_hero import HeroModel
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice
from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.training.run_question_answering import main
from tests.common.moments import WORDS, write_moments
from tests.common.tiny.hero import tiny_config, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What is shown first, and when: the choices are all words of the video and one that is not in it."""
    folder = write_moments(tmp_path_factory.mktemp("questions"), num_videos=8)
    lines = []
    for text in (folder / "data" / "metadata.jsonl").read_text().splitlines():
        row = json.loads(text)
        moments = row.pop("moments")
        shown = [moment["text"] for moment in moments]
        other = next(word for word in WORDS if word not in shown)
        for moment in moments[:2]:
            question = {"question": "m", "choices": [other, moment["text"]], "answer": 1}
            lines.append({**row, **question, "answer_start": moment["start"], "answer_end": moment["end"]})
    (folder / "data" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    torch.manual_seed(0)
    model = HeroModel(tiny_config())
    model.config.architectures = ["HeroModel"]
    model.save_pretrained(folder / "base")
    tiny_processor().save_pretrained(folder / "base")
    return folder


def test_statements_train_evaluate_and_are_judged(folder, tmp_path, capsys):
    """A word is true of a video that shows it."""
    shutil.copytree(folder / "data", tmp_path / "data")
    lines = []
    for text in (folder / "data" / "metadata.jsonl").read_text().splitlines():
        row = {name: value for name, value in json.loads(text).items() if not name.startswith("answer")}
        row.pop("question")
        other, shown = row.pop("choices")
        lines += [{**row, "statement": shown, "answer": 1}, {**row, "statement": other, "answer": 0}]
    (tmp_path / "data" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--model", folder / "base", "--data_dir", tmp_path / "data", "--features", folder / "features"]
    words += ["--output_dir", tmp_path / "run", "--select_on", "none", "--max_steps", "80", "--learning_rate", "2e-3"]
    words += ["--per_device_train_batch_size", "8", "--report_to", "none", "--head", "statement", "--test", "false"]
    assert main([*map(str, words), "--context_subtitles", "1"]) == 0
    assert "the head (statement) is new" in capsys.readouterr().out
    settings = json.loads((tmp_path / "run" / "processor_config.json").read_text())
    assert settings["context_subtitles"] == 1

    options = ["--dataset", tmp_path / "data", "--features", folder / "features", "--num-workers", "0", "--cpu"]
    words = ["evaluate", "--model", tmp_path / "run", *options, "--split", "train", "--output-dir", tmp_path / "out"]
    assert command([*map(str, words)]) == 0
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["scores"]
    assert scores["accuracy"] >= 0.9 and scores["chance"]["overall"]["accuracy"] == 0.5
    submission = json.loads((tmp_path / "out" / "submission.json").read_text())
    predictions = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert submission == {one["question_id"]: int(one["answer"] == "true") for one in predictions}

    statement = next(line for line in lines if line["split"] == "train")  # true
    words = ["ask", tmp_path / "data" / statement["file_name"], statement["statement"], "--model", tmp_path / "run"]
    assert command([*map(str, [*words, "--features", folder / "features", "--json"])]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["answer"] for one in found["answers"]] == ["true", "false"] and "moment" not in found
    assert sum(one["probability"] for one in found["answers"]) == pytest.approx(1)


def test_questions_train_evaluate_and_are_asked(folder, tmp_path, capsys, caplog):
    words = ["--model", folder / "base", "--data_dir", folder / "data", "--features", folder / "features"]
    words += ["--output_dir", tmp_path / "run", "--select_on", "none", "--max_steps", "60", "--learning_rate", "2e-3"]
    words += ["--per_device_train_batch_size", "4", "--report_to", "none", "--logging_steps", "20"]
    assert main([*map(str, words)]) == 0
    assert "the head (multiple_choice) is new" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == ["HeroForMultipleChoice"]

    options = ["--dataset", folder / "data", "--features", folder / "features", "--num-workers", "0", "--cpu"]
    words = ["evaluate", "--model", tmp_path / "run", *options, "--split", "train", "--output-dir", tmp_path / "out"]
    assert command([*map(str, words)]) == 0
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["scores"]["raw"]
    assert scores["overall"]["accuracy"] >= 0.9, scores
    submission = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert len(submission) == scores["overall"]["questions"] and set(submission.values()) <= {0, 1}

    shutil.copy(folder / "data" / "video01.srt", tmp_path / "video01.srt")
    words = ["ask", tmp_path / "video01.mp4", "m", "--model", tmp_path / "run", "--features", folder / "features"]
    choices = ["--choices", *"abcdef", "--json"]
    assert command([*map(str, [*words, *choices])]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {one["answer"] for one in found["answers"]} == set("abcdef")
    assert found["moment"]["start"] < found["moment"]["end"]
    rows = FeatureStore(folder / "features").features("video01").numpy()
    np.save(tmp_path / "long.npy", np.concatenate([rows, rows]))  # 24 rows, and the model reads 12
    assert command([*map(str, [*words[:-1], tmp_path / "long.npy", *choices])]) == 0
    captured = capsys.readouterr()
    assert "the video lasts 36 s, and the model reads only the first 18 s" in captured.err + caplog.text
    assert json.loads(captured.out.splitlines()[-1])["answers"] == found["answers"]
    assert command([*map(str, [*words[:-2], "--choices", "a", "b"])]) == 2
    assert "there is no file to extract features from" in capsys.readouterr().err
    assert command([*map(str, [*words, "--choices", "a"])]) == 2
    assert "--choices has a single option, 'a'; give two or more" in capsys.readouterr().err


@torch.no_grad()
def test_a_batch_holds_subtitles_spans_and_the_video_of_each_question(folder):
    records, _ = find_dataset(str(folder / "data")).load("train", need_videos=False)
    store, processor = FeatureStore(folder / "features"), tiny_processor()
    rows = list(records)[:4]
    training = QuestionAnsweringCollator(processor, records, True, "multiple_choice", features=store)(rows)
    assert training["video_features"].shape == (4, 12, 16)
    assert training["start_positions"].tolist() == [0, 4, 0, 4] and training["end_positions"].tolist() == [3, 7, 3, 7]
    batch = QuestionAnsweringCollator(processor, records, False, "multiple_choice", features=store)(rows)
    assert batch["video_features"].shape == (2, 12, 16) and batch["video_index"].tolist() == [0, 0, 1, 1]
    model = tiny_model(HeroForMultipleChoice)
    names = ("question_index", "question_is_cut", "num_broken_videos", "num_cut_questions")
    found = model(**{name: value for name, value in batch.items() if name not in names})
    expected = model(**{name: value for name, value in training.items() if name not in names})
    torch.testing.assert_close(found.logits, expected.logits)
    assert type(processor) is HeroProcessor and expected.loss > 0


def test_long_questions_are_left_out(folder, tmp_path, capsys):
    words = ["--model", folder / "base", "--data_dir", folder / "data", "--features", folder / "features"]
    words += ["--output_dir", tmp_path / "run", "--select_on", "none", "--max_steps", "1", "--max_length", "2"]
    lines = (folder / "data" / "metadata.jsonl").read_text()
    try:
        (folder / "data" / "metadata.jsonl").write_text(lines.replace('"question": "m"', '"question": "m m"', 4))
        assert main([*map(str, [*words, "--per_device_train_batch_size", "2", "--report_to", "none"])]) == 0
    finally:
        (folder / "data" / "metadata.jsonl").write_text(lines)
    assert "training questions are too long and are left out." in capsys.readouterr().out
