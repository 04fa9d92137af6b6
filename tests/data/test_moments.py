"""A folder may hold moments of subtitled videos."""

import json

import numpy as np
import pytest

from hf_videolang.cli import main
from hf_videolang.data.batches.moment_retrieval import query_rows
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.moments import moment_columns
from tests.common.moments import write_features

MOMENT = {"text": "she laughs", "start": 3, "end": 5.5}


def write(folder, *rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps({**row, "split": "test"}) + "\n" for row in rows))
    return find_dataset(str(folder))


def test_moments_become_records_and_queries(tmp_path):
    dataset = write(
        tmp_path,
        {"file_name": "a/talk.mp4", "subtitles": "a/talk.srt", "moments": [MOMENT, {**MOMENT, "text": "b"}]},
        {"file_name": "b.mp4", "moments": [MOMENT]},
        {"file_name": "b.mp4", "moments": [{**MOMENT, "end": 4}]},
    )
    assert dataset.task == "moment_retrieval"
    records, protocol = dataset.load("test", need_videos=False)
    assert str(protocol).startswith(f"{tmp_path.name} (videofolder), test: 2 videos, 4 queries")
    assert records["video_id"] == ["a/talk", "b"]
    assert records["subtitles"] == [str(tmp_path / "a" / "talk.srt"), None]
    rows = query_rows(records)
    assert rows["video_id"] == ["a/talk", "a/talk", "b", "b"] and rows["end"] == [5.5, 5.5, 5.5, 4.0]
    assert rows["text"] == ["she laughs", "b", "she laughs", "she laughs"]


def test_a_text_file_holds_moments_as_json(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        'file_name,moments\na.mp4,"[{""text"": ""x"", ""start"": 0, ""end"": 2}]"\n'
    )
    records, _ = find_dataset(str(tmp_path)).load("train", need_videos=False)
    assert records["moments"] == [[{"text": "x", "start": 0.0, "end": 2.0}]]


@pytest.mark.parametrize(
    "moments",
    [{"text": "x"}, [{"text": " ", "start": 0, "end": 1}], [{**MOMENT, "end": 3}], [{**MOMENT, "start": None}], "[1]"],
)
def test_a_wrong_moment_is_named(tmp_path, moments):
    with pytest.raises(ValueError, match="a moment is .*expected .*in seconds, the end after the start"):
        moment_columns({"moments": moments}, tmp_path)
    with pytest.raises(ValueError, match="metadata.jsonl, row 1.*a moment is"):
        write(tmp_path, {"file_name": "a.mp4", "moments": moments})


def test_a_video_without_moments_is_named(tmp_path):
    dataset = write(tmp_path, {"file_name": "a.mp4", "moments": []}, {"file_name": "b.mp4", "moments": [MOMENT]})
    with pytest.raises(ValueError, match="1 videos have no moment: a"):
        dataset.load("test", need_videos=False)


def test_data_check_finds_what_moments_need(tmp_path, capsys):
    (data := tmp_path / "data").mkdir()
    rows = [
        {"file_name": "a.mp4", "subtitles": "a.srt", "moments": [MOMENT]},
        {"file_name": "b.mp4", "subtitles": "nowhere.srt", "moments": [{**MOMENT, "end": 99}]},
        {"file_name": "c.mp4", "moments": [MOMENT]},
    ]
    write(data, *rows)
    (data / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nx\n")
    write_features(tmp_path / "features", {"a": np.zeros((8, 16)), "b": np.zeros((8, 16))})
    command = ["data", "check", str(data), "--features", str(tmp_path / "features"), "--num-workers", "0", "--json"]
    assert main([*command, "--ignore", "missing_video"]) == 1
    found = {problem["kind"]: problem for problem in json.loads(capsys.readouterr().out)["problems"]}
    assert {kind: problem["video_id"] for kind, problem in found.items()} == {
        "missing_subtitles": "b",
        "short_features": "b",
        "missing_features": "c",
    }
    assert "8 rows, 12 s, and 1 moments end later, the last one at 99 s" in found["short_features"]["detail"]
