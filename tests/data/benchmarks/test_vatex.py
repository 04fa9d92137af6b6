import pytest

from hf_videolang.data import load_dataset
from hf_videolang.data.batches.moment_retrieval import query_rows
from hf_videolang.data.load_dataset import BENCHMARKS
from hf_videolang.video.subtitles import read_subtitles
from tests.data.benchmarks.annotations import read, read_records, touch, write


def row(video, *captions):
    return {"videoID": video, "enCap": list(captions), "chCap": ["一", "二"]}


@pytest.fixture
def folder(tmp_path):
    """Ids end in start and end; YouTube's own part may hold "_" and "-"."""
    write(tmp_path / "vatex_training_v1.0.json", [row("a_-bcdefghi_000010_000020", "a cat", " a cat sleeps")])
    rows = [row("bbbbbbbbbbb_000000_000010", "b1", "b2"), row("c_c-ccccccc_000105_000115", "c1")]
    write(tmp_path / "vatex_validation_v1.0.json", rows)
    write(tmp_path / "vatex_public_test_english_v1.1.json", [row("ddddddddddd_000001_000011", "d1")])
    write(tmp_path / "lists" / "val_list.txt", "bbbbbbbbbbb_000000_000010\n")
    write(tmp_path / "lists" / "test_list.txt", "c_c-ccccccc_000105_000115")
    touch(tmp_path, "v/a_-bcdefghi_000010_000020.mp4", "v/bbbbbbbbbbb_000000_000010.webm", "v/c_c-ccccccc.mkv")
    touch(tmp_path, "v/ddddddddddd_000001_000011.mp4")
    return tmp_path


def test_half_an_emoji_is_a_question_mark(folder):
    (folder / "vatex_training_v1.0.json").write_text(
        '[{"videoID": "a_-bcdefghi_000010_000020", "enCap": ["a cat \\ud83d"]}]'
    )
    assert load_dataset("vatex", folder, "train")[0]["captions"][:] == [["a cat ?"]]


def test_halves_of_hgr(folder):
    dataset, protocol = load_dataset("vatex", folder, "validation")
    assert dataset[:] == {
        "video": [{"bytes": None, "path": str(folder / "v" / "bbbbbbbbbbb_000000_000010.webm")}],
        "video_id": ["bbbbbbbbbbb_000000_000010"],
        "captions": [["b1", "b2"]],
    }
    assert str(protocol) == (
        "vatex, validation: 1 of 1500 videos, 2 captions, each a query of its own (val_list.txt, "
        "vatex_validation_v1.0.json); validation and test are HGR's halves of the official validation"
    )
    assert read("vatex", folder, "train") == {"a_-bcdefghi_000010_000020": ["a cat", "a cat sleeps"]}
    assert read_records("vatex", folder, "train+test")[1].published["captions"] == 259910 + 15000


def test_a_clip_that_was_not_cut_out(folder):
    """The whole YouTube video stands in, with the seconds of the id."""
    dataset, _ = load_dataset("vatex", folder)
    assert dataset[:] == {
        "video": [{"bytes": None, "path": str(folder / "v" / "c_c-ccccccc.mkv")}],
        "video_id": ["c_c-ccccccc_000105_000115"],
        "captions": [["c1"]],
        "start": [105.0],
        "end": [115.0],
    }
    touch(folder, "v/c_c-ccccccc_000105_000115.mp4")
    dataset, _ = load_dataset("vatex", folder)
    assert dataset[0]["video"]["path"].endswith("_000115.mp4") and "start" not in dataset.column_names


def test_official_splits(folder):
    assert [*read("vatex-full", folder, "validation")] == [
        "bbbbbbbbbbb_000000_000010",
        "c_c-ccccccc_000105_000115",
    ]
    assert read("vatex-full", folder, "test") == {"ddddddddddd_000001_000011": ["d1"]}
    for split, videos in (("train", 25991), ("validation", 3000), ("test", 6000)):
        protocol = read_records("vatex-full", folder, split)[1]
        assert protocol.published == {"videos": videos, "captions": 10 * videos}


def test_lists_are_needed_unless_a_file_is_one_split(folder):
    (folder / "lists" / "test_list.txt").unlink()
    expected = (
        r"vatex: no file with the videos of test, one a line, to cut vatex_validation\*.json, nor one with its "
        r"captions. Expected one of \*test_list.txt, \*vatex\*test\*.txt, \*vatex\*test\*.jsonl \("
    )
    with pytest.raises(FileNotFoundError, match=expected):
        read_records("vatex", folder)
    write(folder / "vatex_test1k5.jsonl", [{"clip_id": "ddddddddddd_000001_000011", "text": ["d1", "d2"]}])
    assert read("vatex", folder, "test") == {"ddddddddddd_000001_000011": ["d1", "d2"]}
    write(folder / "vatex_training_v1.0.json", [{"videoID": "x", "chCap": ["一"]}])
    with pytest.raises(ValueError, match=r"training_v1.0.json is not in the layout of VATEX \(KeyError: 'enCap'\)"):
        read_records("vatex", folder, "train")


def test_the_tasks_of_value(tmp_path):
    """Sentences of retrieval are read from a line each; those of a test of captions together (hero §7.1, A8)."""
    name = "bbbbbbbbbbb_000000_000010"
    for split in ("train", "val", "test_public"):
        lines = [
            {"vid_name": f"{split}_000000_000010", "duration": 10.0, "desc": f"{split} {n}", "desc_id": n}
            for n in (1, 2)
        ]
        write(tmp_path / f"vatex_en_r_{split}_release.jsonl", lines)
    descriptions = [{"desc": "a cat", "desc_id": 901}, {"desc": " a cat sleeps", "desc_id": 902}]
    line = {"vid_name": name, "clip_id": 31, "duration": 10.0, "descs": descriptions}
    write(tmp_path / "vatex_en_c_test_public_release.jsonl", [line])
    records, protocol = BENCHMARKS["vatex-en-r"].at(tmp_path).load("train", need_videos=False)
    queries = [{"text": f"train {n}", "start": None, "end": None} for n in (1, 2)]
    assert records["moments"] == [queries] and records["subtitles"] == [None]
    assert "without subtitles (vatex_subtitles.jsonl is absent)" in str(protocol)
    assert [row["text"] for row in query_rows(records)] == ["train 1", "train 2"]
    shown = [{"text": " Ana : hi", "start": 0.9, "end": 1.9}]
    write(tmp_path / "vatex_subtitles.jsonl", [{"vid_name": name, "sub": shown}])
    captioning = BENCHMARKS["vatex-en-c"].at(tmp_path)
    records, protocol = captioning.load("test", need_videos=False)
    assert records["segments"] == [[{"start": None, "end": None, "captions": ["a cat", "a cat sleeps"]}]]
    assert read_subtitles(records[0]["subtitles"]) == shown
    assert protocol.published == {"videos": 6000, "captions": 60000} and "vatex_subtitles.jsonl" in protocol.source
    records, protocol = captioning.load("train+validation", need_videos=False)
    texts = [one["captions"] for (one,) in records["segments"]]
    assert texts == [["train 1", "train 2"], ["val 1", "val 2"]] and protocol.published["captions"] == 289910
