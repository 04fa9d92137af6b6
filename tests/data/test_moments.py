"""A folder may hold moments of subtitled videos."""

import json

import pytest

from hf_videolang.data.batches.moment_retrieval import query_rows
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.moments import moment_columns

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
