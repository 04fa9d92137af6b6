"""A folder may hold captions of segments; what cannot be learnt is left out and counted."""

import json

import numpy as np
import pytest

from hf_videolang.cli import main
from hf_videolang.data.batches.captioning import CaptioningCollator, SegmentCollator, training_rows
from hf_videolang.data.captions import caption_columns
from hf_videolang.data.load_dataset import find_dataset
from tests.common.moments import write_features
from tests.common.tiny.hero import FEATURES, WORDS, tiny_processor

CAPTION = {"text": "a b", "start": 3, "end": 6}
WHOLE = {"text": "c", "start": None, "end": None}


def write(folder, *rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps({**row, "split": "test"}) + "\n" for row in rows))
    return find_dataset(str(folder))


def test_captions_of_segments_become_records(tmp_path, caplog):
    dataset = write(
        tmp_path,
        {"file_name": "talk.mp4", "subtitles": "talk.srt", "captions": [CAPTION, {"text": "c"}]},
        {"file_name": "talk.mp4", "subtitles": "talk.srt", "captions": [{**CAPTION, "text": "d"}, {"text": " "}]},
    )
    assert dataset.task == "captioning"
    records, protocol = dataset.load("test", need_videos=False)
    assert str(protocol).startswith(f"{tmp_path.name} (videofolder), test: 1 videos, 2 clips")
    assert records[0]["subtitles"] == str(tmp_path / "talk.srt")
    assert records[0]["segments"] == [
        {"start": 3.0, "end": 6.0, "captions": ["a b", "d"]},
        {"start": None, "end": None, "captions": ["c"]},
    ]
    assert "Left out 1 blank captions" in caplog.text


def test_a_text_file_holds_captions_as_json(tmp_path):
    cell = json.dumps([CAPTION]).replace('"', '""')
    (tmp_path / "metadata.csv").write_text(f'file_name,captions\na.mp4,"{cell}"\n')
    records, _ = find_dataset(str(tmp_path)).load("train", need_videos=False)
    assert records["segments"] == [[{"start": 3.0, "end": 6.0, "captions": ["a b"]}]]


@pytest.mark.parametrize(
    "captions", [[{"start": 1, "end": 2}], [{**CAPTION, "end": 3}], [{**CAPTION, "end": None}], [CAPTION, "b"]]
)
def test_a_wrong_caption_is_named(tmp_path, captions):
    with pytest.raises(ValueError, match="a caption is .*expected .*in seconds, the end after the start"):
        caption_columns({"captions": captions}, tmp_path)
    with pytest.raises(ValueError, match="metadata.jsonl, row 1.*a caption is"):
        write(tmp_path, {"file_name": "a.mp4", "captions": captions})


def test_a_video_without_captions_is_named(tmp_path):
    dataset = write(tmp_path, {"file_name": "a.mp4", "captions": [{**CAPTION, "text": ""}]})
    with pytest.raises(ValueError, match="1 videos have no caption, or only blank ones: a"):
        dataset.load("test", need_videos=False)


@pytest.fixture
def captioned(tmp_path):
    late = {"text": "e", "start": 30.0, "end": 40.0}
    rows = [
        {"file_name": "a.mp4", "captions": [CAPTION, {**CAPTION, "text": "d"}, WHOLE, late]},
        {"file_name": "b.mp4", "captions": [{"text": "你好 …"}, {"text": "a b c d e"}]},
    ]
    features = write_features(tmp_path / "features", {"a": np.zeros((8, FEATURES)), "b": np.ones((4, FEATURES))})
    return write(tmp_path, *rows).load("test", need_videos=False)[0], features, tiny_processor(max_length=4)


def test_what_cannot_be_learnt_is_left_out_and_counted(captioned):
    records, features, processor = captioned
    rows, notes = training_rows(records, processor, features)
    texts = [[text for one in row["segments"] for text in one["captions"]] for row in rows]
    assert texts == [["a b", "d", "c"], ["a b c d e"]]
    assert notes == [
        "1 of 6 training captions are about segments behind the rows of features that are read and are left out.",
        "1 of 6 training captions have no known character and are left out.",
        "1 of 6 training captions are too long and are cut.",
    ]
    rows, notes = training_rows(records, processor, features, "drop", one_caption_a_row=True)
    assert [row["segments"][0]["captions"] for row in rows] == [["a b"], ["d"], ["c"]]
    assert notes[-1] == "1 of 6 training captions are too long and are left out."


def test_batches(captioned):
    records, features, processor = captioned
    rows, _ = training_rows(records, processor, features)
    batch = CaptioningCollator(processor, features)(list(rows))
    assert batch["segments"].tolist() == [[2, 4], [2, 4], [0, 8], [0, 4]]
    assert batch["video_index"].tolist() == [0, 0, 0, 1] and len(batch["video_features"]) == 2
    a, b, c, d = (WORDS.index(word) for word in "abcd")
    assert batch["labels"].tolist() == [[a, b, 2, -100], [d, 2, -100, -100], [c, 2, -100, -100], [a, b, c, d]]
    batch = SegmentCollator(processor, features, records)(list(records))
    assert batch["segments"].tolist() == [[2, 4], [0, 8], [0, 4]]
    assert batch["segment_number"].tolist() == [0, 1, 3] and batch["video_number"].tolist() == [0, 1]


def test_data_check_knows_captions_of_segments(tmp_path, capsys):
    rows = [{"file_name": "a.mp4", "captions": [{**CAPTION, "end": 99}, {"text": ""}]}]
    write(tmp_path, *rows)
    write_features(tmp_path / "features", {"a": np.zeros((8, FEATURES))})
    command = ["data", "check", str(tmp_path), "--features", str(tmp_path / "features"), "--num-workers", "0"]
    assert main([*command, "--json", "--ignore", "missing_video"]) == 1
    found = {problem["kind"] for problem in json.loads(capsys.readouterr().out)["problems"]}
    assert found == {"empty_caption", "short_features"}
