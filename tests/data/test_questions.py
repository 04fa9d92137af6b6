"""Questions of a folder: all ways to say what the answer is, in every format of the metadata."""

import pytest
from PIL import Image

from hf_videolang.data import load_dataset
from hf_videolang.data.questions import question_columns
from hf_videolang.data.tools.check import check_data
from hf_videolang.data.video_folder import read_video_folder
from tests.data.test_video_folder import touch, write_csv, write_jsonl, write_parquet

ROWS = [
    {"file_name": "a.mp4", "question": "what barks?", "answer": "dog", "answer_type": "what"},
    {"file_name": "b.mp4", "question": "", "choices": ["a cat", "a dog"], "answer": "a dog", "question_id": "mine"},
    {"file_name": "a.mp4", "question": "how many?", "answers": {"2": 1.0, "two": 0.3}},
    {"file_name": "b.mp4", "question": "which?", "choices": ["x", "y", "z"], "answer": 2, "start": 1, "end": 3.5},
]
UNKNOWN = dict.fromkeys(("answer", "choices", "answer_index", "answers", "answer_type"))
UNKNOWN |= dict.fromkeys(("answer_start", "answer_end", "subtitles"))


@pytest.mark.parametrize("write", [write_jsonl, write_csv])
def test_a_row_is_a_question(tmp_path, write):
    touch(tmp_path, "a.mp4", "b.mp4")
    rows = [{key: str(value) if isinstance(value, dict) else value for key, value in row.items()} for row in ROWS]
    rows[2]["answers"] = '{"2": 1.0, "two": 0.3}'
    write(tmp_path, rows)
    dataset, protocol = load_dataset(str(tmp_path), split="train+validation")
    found = {row.pop("question_id"): row for row in dataset.sort("question_id")}
    assert list(found) == ["a#q1", "a#q2", "b#t=1,3.5#q1", "mine"]
    assert protocol.counts == {"videos": 3, "questions": 4}
    assert "3 videos, 4 questions (" in str(protocol)
    paths = {name: row.pop("video")["path"] for name, row in found.items()}
    assert paths["mine"] == str(tmp_path / "b.mp4")
    for row in found.values():
        assert {row.pop("start"), row.pop("end")} in ({None}, {1.0, 3.5})
    first = UNKNOWN | {"video_id": "a", "question": "what barks?", "answer": "dog", "answer_type": "what"}
    scores = [{"answer": "2", "score": 1.0}, {"answer": "two", "score": 0.3}]
    assert found["a#q1"] == first
    assert found["a#q2"] == UNKNOWN | {"video_id": "a", "question": "how many?", "answers": scores}
    chosen = {"answer": "a dog", "choices": ["a cat", "a dog"], "answer_index": 1}
    assert found["mine"] == UNKNOWN | chosen | {"video_id": "b", "question": ""}
    assert (found["b#t=1,3.5#q1"]["answer"], found["b#t=1,3.5#q1"]["answer_index"]) == ("z", 2)


def test_parquet_with_mappings(tmp_path):
    touch(tmp_path, "a.mp4")
    rows = [{"file_name": "a.mp4", "question": "?", "answers": scores} for scores in ({"x": 1.0}, {"y": 0.6}, None)]
    write_parquet(tmp_path, rows)
    found = [record.columns["answers"] for record in read_video_folder(tmp_path).records["train"]]
    assert found == [[{"answer": "x", "score": 1.0}], [{"answer": "y", "score": 0.6}], None]


@pytest.mark.parametrize(
    ("row", "answer", "index"),
    [
        ({"answer": 3}, "3", None),
        ({"answer": 3.0}, "3", None),  # a data frame with empty cells
        ({"answer": "1", "choices": ["x", "y"]}, "y", 1),
        ({"answer": "1", "choices": ["1", "y"]}, "1", 0),  # a text comes before a number
        ({"answer": 5, "choices": ["x", "y"]}, "5", 5),
        ({"answer": "z", "choices": ["x", "y"]}, "z", None),
        ({"choices": ["x", "y"]}, None, None),
    ],
)
def test_answers_as_numbers_and_texts(row, answer, index):
    columns = question_columns({"question": "?", **row})
    assert (columns["answer"], columns["answer_index"]) == (answer, index)


@pytest.mark.parametrize(
    ("given", "answer"),
    [(1, "true"), (0.0, "false"), (True, "true"), ("False", "false"), ("1", "true"), (None, None), ("", None)],
)
def test_a_statement_is_true_or_false(tmp_path, given, answer):
    touch(tmp_path, "a.mp4")
    write_jsonl(tmp_path, [{"file_name": "a.mp4", "subtitles": "a.srt", "statement": "a dog barks", "answer": given}])
    dataset, protocol = load_dataset(str(tmp_path), split="train")
    (row,) = dataset
    assert (row["question"], row["answer"], row["choices"]) == ("a dog barks", answer, None)
    assert protocol.task == "question_answering" and row["subtitles"] == str(tmp_path / "a.srt")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"statement": 3, "answer": 1}, "the statement is 3; expected a text"),
        ({"statement": "it barks", "answer": "maybe"}, "the answer of a statement is 'maybe'; expected true or false"),
        ({"question": "?", "statement": "it barks"}, "exactly one of captions, caption, text, question, statement"),
        ({"question": None}, "the question is None"),
        ({"question": "?", "choices": "x, y"}, "choices is 'x, y'; expected a list of texts"),
        ({"question": "?", "answers": ["x"]}, "answers is"),
        ({"question": "?", "caption": "a dog"}, "exactly one of captions, caption, text, question"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    touch(tmp_path, "a.mp4")
    write_jsonl(tmp_path, [{"file_name": "a.mp4", **row}])
    with pytest.raises(ValueError, match=message):
        read_video_folder(tmp_path)


def test_an_id_belongs_to_one_question(tmp_path):
    touch(tmp_path, "a.mp4")
    write_jsonl(tmp_path, [{"file_name": "a.mp4", "question": "?", "question_id": 7}] * 2)
    with pytest.raises(ValueError, match="2 questions have an id that occurs more than once: 7"):
        load_dataset(str(tmp_path))


def test_all_questions_of_a_file_are_in_one_split(tmp_path):
    names = [f"{number}.mp4" for number in range(20)]
    touch(tmp_path, *names)
    write_jsonl(tmp_path, [{"file_name": name, "question": f"{word}?"} for word in ("who", "what") for name in names])
    splits = read_video_folder(tmp_path).records
    videos = {split: {record.path for record in records} for split, records in splits.items()}
    assert {split: len(records) for split, records in splits.items()} == {"train": 36, "validation": 4}
    assert not videos["train"] & videos["validation"]


def test_pictures_that_the_metadata_names_are_no_frames_of_one_video(tmp_path):
    for number in range(3):
        Image.new("RGB", (40, 30), (90 * number, 0, 0)).save(tmp_path / f"COCO_val2014_00000000000{number}.jpg")
    names = sorted(file.name for file in tmp_path.glob("*.jpg"))
    write_jsonl(tmp_path, [{"file_name": name, "question": "what colour?", "answer": "red"} for name in names])
    folder = read_video_folder(tmp_path)
    assert not folder.unnamed and sum(map(len, folder.records.values())) == 3
    assert not check_data(str(tmp_path), num_workers=0).problems


def test_data_check_knows_questions(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    good = {"file_name": "a.png", "question": "what?", "answer": "x"}
    faults = {
        "no_question": {**good, "question": " "},
        "no_answer": {"file_name": "a.png", "question": "who?"},
        "wrong_choices": {**good, "question": "1", "choices": ["x", "x"]},
        "wrong_answer": {**good, "question": "2", "choices": ["x", "y"], "answer": 2},
        "wrong_score": {"file_name": "a.png", "question": "3", "answers": {"x": 1.2}},
        "unknown_answer": {**good, "question": "4", "answer": "z"},
        "duplicate_question": good,
    }
    write_jsonl(tmp_path, [{**row, "split": "train"} for row in (good, *faults.values())])
    problems = check_data(str(tmp_path), answers=["x", "y"], num_workers=0).problems
    assert {problem.kind: problem.video_id for problem in problems if problem.kind != "unknown_answer"} == {
        kind: f"a#q{number}" for number, kind in enumerate(faults, start=2) if kind != "unknown_answer"
    }
    write_jsonl(tmp_path, [{**good, "choices": ["x"], "split": "train"}])
    assert [problem.kind for problem in check_data(str(tmp_path), num_workers=0).problems] == ["wrong_choices"]
    unknown = [problem.video_id for problem in problems if problem.kind == "unknown_answer"]
    assert unknown == ["a#q3", "a#q5", "a#q7"]  # no answer, a number beyond the options, another word
