import csv
import json
import os
import re

import pyarrow
import pyarrow.parquet
import pytest

from hf_videolang.data import find_dataset, load_dataset, video_folder
from hf_videolang.data.video_files import list_files
from hf_videolang.data.video_folder import read_video_folder
from tests.video.making import write_frames

ROWS = [
    {"file_name": "b.webm", "captions": ["two", "deux"]},
    {"file_name": "sub/a.mp4", "captions": ["one"]},
]


def write_jsonl(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(folder, rows):
    """Lists of captions as JSON in their cell."""
    cells = [
        {key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows
    ]
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(cells)


def write_parquet(folder, rows):
    columns = dict.fromkeys(key for row in rows for key in row)
    table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    pyarrow.parquet.write_table(table, folder / "metadata.parquet")


@pytest.fixture
def folder(tmp_path):
    """Reading annotations decodes nothing: empty files will do."""
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    for name in ("sub/a.mp4", "b.webm"):
        (folder / name).touch()
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_the_three_formats(folder, write):
    write(folder, ROWS)
    dataset, protocol = load_dataset(str(folder))
    found = {row["video_id"]: row for row in dataset}
    assert found == {
        "b": {"video": {"bytes": None, "path": str(folder / "b.webm")}, "video_id": "b", "captions": ["two", "deux"]},
        "sub/a": {
            "video": {"bytes": None, "path": str(folder / "sub/a.mp4")},
            "video_id": "sub/a",
            "captions": ["one"],
        },
    }
    assert str(protocol).startswith(
        "mine (videofolder), train+validation: 2 videos, 3 captions, each a query of its own (mine/"
    )
    again, _ = load_dataset("videofolder", folder, "train+validation")
    assert again[:] == dataset[:]


@pytest.mark.parametrize("column", ["caption", "text", "captions"])
def test_several_rows_of_a_video_are_its_captions(folder, column):
    rows = [("b.webm", "two"), ("sub/a.mp4", "one"), ("b.webm", "deux")]
    write_csv(folder, [{"file_name": name, column: text} for name, text in rows])
    splits = read_video_folder(folder).records
    records = [record for found in splits.values() for record in found]
    assert {record.video_id: record.captions for record in records} == {"b": ["two", "deux"], "sub/a": ["one"]}


def test_splits_by_folder(folder):
    touch(folder, "train/x.mp4", "train/y.mp4", "Val/x.mp4", "test/deep/x.avi")
    (folder / "Val" / "metadata.jsonl").write_text('{"file_name": "x.mp4", "text": "seen twice"}')
    write_jsonl(folder / "train", [{"file_name": "x.mp4", "text": "1"}, {"file_name": "y.mp4", "text": "2"}])
    write_csv(folder / "test", [{"file_name": "deep/x.avi", "caption": "3"}])
    read = read_video_folder(folder)
    found = {split: [(record.video_id, record.captions) for record in kept] for split, kept in read.records.items()}
    assert found == {
        "train": [("train/x", ["1"]), ("train/y", ["2"])],
        "validation": [("Val/x", ["seen twice"])],
        "test": [("test/deep/x", ["3"])],
    }
    assert read.source == "mine/Val/metadata.jsonl, mine/test/metadata.csv, mine/train/metadata.jsonl"
    assert load_dataset(str(folder))[1].split == "test"  # the default
    assert len(load_dataset(str(folder), split="train+validation+test")[0]) == 4
    with pytest.raises(ValueError, match=r"no split all; it has .*train"):
        load_dataset(str(folder), split="all")


def test_splits_by_column(folder):
    write_jsonl(folder, [{**ROWS[0], "split": "valid"}, {**ROWS[1], "split": "extra"}])
    splits = read_video_folder(folder).records
    assert {split: [record.video_id for record in records] for split, records in splits.items()} == {
        "validation": ["b"],
        "extra": ["sub/a"],
    }
    write_jsonl(folder, [{**ROWS[0], "split": "train"}, ROWS[1]])
    with pytest.raises(ValueError, match=r"some rows have a split and others have none \(sub/a\)"):
        read_video_folder(folder)


def test_a_tenth_is_held_out_as_validation(tmp_path):
    rows = [{"file_name": f"{i}.mp4", "caption": "x"} for i in range(40)]
    touch(tmp_path, *(row["file_name"] for row in rows))
    write_jsonl(tmp_path, rows)
    splits = read_video_folder(tmp_path).records
    names = {split: [record.video_id for record in records] for split, records in splits.items()}
    assert len(names["validation"]) == 4 and sorted(map(int, names["train"] + names["validation"])) == [*range(40)]
    # the choice does not depend on the order of the rows, and hardly on videos that come later
    write_jsonl(tmp_path, rows[::-1])
    assert {record.video_id for record in read_video_folder(tmp_path).records["validation"]} == set(
        names["validation"]
    )
    more = [{"file_name": f"later{i}.mp4", "caption": "x"} for i in range(3)]
    write_jsonl(tmp_path, rows + more)
    kept = {record.video_id for record in read_video_folder(tmp_path).records["validation"]} & set(names["validation"])
    assert len(kept) >= 3
    # with a test split, too, only training gives some away; a single video stays in training
    write_jsonl(tmp_path, [{**row, "split": "train" if i else "test"} for i, row in enumerate(rows[:2])])
    assert set(read_video_folder(tmp_path).records) == {"train", "test"}


def test_one_file_of_several_names_is_not_in_train_and_validation(tmp_path):
    touch(tmp_path, "videos/a.mp4", "videos/b.mp4", "one/_", "two/_")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "videos" / "a.mp4")
    for folder in ("one", "two"):
        names = (f"../videos/{name}.mp4" for name in "ab")
        write_jsonl(tmp_path / folder, [{"file_name": name, "caption": folder} for name in names])
    write_jsonl(tmp_path, [{"file_name": "link.mp4", "caption": "link"}])
    splits = read_video_folder(tmp_path).records
    files = [{record.path.resolve() for record in splits[split]} for split in ("train", "validation")]
    assert files[0].isdisjoint(files[1]) and len(splits["train"]) + len(splits["validation"]) == 5


def test_segments_that_run_backward_are_named(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    times = {"a": {"start": 5, "end": 2}, "b": {"start": 1, "end": 1}, "c": {"start": 1, "end": 2}}
    write_jsonl(tmp_path, [{"file_name": f"{name}.mp4", "caption": "x", **times[name]} for name in times])
    with pytest.raises(ValueError, match="2 videos do not end after their start: .*data check"):
        load_dataset(str(tmp_path), split="train+validation")


def test_segments(tmp_path):
    touch(tmp_path, "long.mp4", "whole.mp4")
    rows = [
        {"file_name": "long.mp4", "caption": "begins", "end": 4},
        {"file_name": "long.mp4", "caption": "goes on", "start": 4.0, "end": 9.25},
        {"file_name": "long.mp4", "caption": "keeps going", "start": 4.0, "end": 9.25},
        {"file_name": "whole.mp4", "caption": "all of it"},
    ]
    expected = {
        "long#t=0,4": (["begins"], None, 4.0),
        "long#t=4,9.25": (["goes on", "keeps going"], 4.0, 9.25),
        "whole": (["all of it"], None, None),
    }
    for write in (write_jsonl, write_csv, write_parquet):
        write(tmp_path, rows)
        dataset, _ = load_dataset(str(tmp_path))
        assert {row["video_id"]: (row["captions"], row["start"], row["end"]) for row in dataset} == expected
        # segments of one video stay on one side of the held-out part
        found = find_dataset(str(tmp_path))
        assert {len(found.read(split)[0]) for split in ("train", "validation")} == {1, 2}
        next(tmp_path.glob("metadata.*")).unlink()


def test_close_segments_late_in_a_video_have_different_ids(tmp_path):
    touch(tmp_path, "long.mp4")
    starts = (10000.0, 10000.04, 12345.678)
    write_jsonl(
        tmp_path,
        [{"file_name": "long.mp4", "caption": "x", "start": start, "end": 12345.679} for start in starts],
    )
    dataset, _ = load_dataset(str(tmp_path))
    times = ("10000", "10000.04", "12345.678")
    assert dataset["video_id"][:] == [f"long#t={time},12345.679" for time in times]


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_absent_seconds_as_data_frames_write_them(folder, write):
    write(folder, [{"file_name": "b.webm", "caption": "x", "start": float("nan"), "end": 2.0}])
    (record,) = read_video_folder(folder).records["train"]
    assert (record.start, record.end) == (None, 2.0)


def test_a_sentence_that_begins_with_a_bracket(folder):
    rows = [{"file_name": "b.webm", "captions": "[music] two"}]
    for write in (write_jsonl, write_parquet, write_csv):
        write(folder, rows)
        assert read_video_folder(folder).records["train"][0].captions == ["[music] two"]
        next(folder.glob("metadata.*")).unlink()
    write_csv(folder, [{"file_name": "b.webm", "captions": "['one', 'two']"}])  # as pandas writes a list
    with pytest.raises(ValueError, match=r"row 1, .*\['one', 'two'\].*: Expecting value"):
        read_video_folder(folder)


def test_files_that_differ_in_their_suffix_alone(folder):
    touch(folder, "b.mov")
    rows = [*ROWS, {"file_name": "b.mov", "captions": ["other"]}]
    write_jsonl(folder, rows)
    dataset, _ = load_dataset(str(folder))
    assert dict(zip(dataset["video_id"], dataset["captions"])) == {
        "b.webm": ["two", "deux"],
        "b.mov": ["other"],
        "sub/a": ["one"],
    }
    write_jsonl(folder, [{**row, "start": start, "end": start + 1} for row in rows[::2] for start in (0, 1)])
    records = [record for found in read_video_folder(folder).records.values() for record in found]
    assert {record.video_id for record in records} == {"b.webm#t=0,1", "b.webm#t=1,2", "b.mov#t=0,1", "b.mov#t=1,2"}


def test_jsonl_as_other_programs_write_it(folder):
    """With a byte order mark, with \\r\\n, with a line separator inside a sentence."""
    lines = [json.dumps({**row, "captions": ["a\u2028b"]}, ensure_ascii=False) for row in ROWS]
    (folder / "metadata.jsonl").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    dataset, _ = load_dataset(str(folder))
    assert sorted(dataset["video_id"]) == ["b", "sub/a"] and dataset["captions"][0] == ["a\u2028b"]


def test_half_an_emoji_becomes_a_question_mark(folder):
    write_jsonl(folder, [{**row, "captions": ["a \U0001f642 b \ud83d"]} for row in ROWS])
    dataset, _ = load_dataset(str(folder))
    assert dataset["captions"][0] == ["a \U0001f642 b ?"]


def test_own_ids_and_files_elsewhere(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_VIDEOLANG_TRUST_DATA", "1")
    touch(tmp_path, "elsewhere/c.mp4")
    rows = [
        {**ROWS[0], "video_id": 17},
        {"file_name": str(tmp_path / "elsewhere" / "c.mp4"), "captions": ["three"]},
    ]
    write_jsonl(folder, rows)
    dataset, _ = load_dataset(str(folder))
    paths = {row["video_id"]: row["video"]["path"] for row in dataset}
    assert paths == {
        "17": str(folder / "b.webm"),
        str(tmp_path / "elsewhere" / "c"): str(tmp_path / "elsewhere" / "c.mp4"),
    }


def test_folders_of_pictures(folder):
    """A folder is a video like a file; its name has no extension that could be taken off."""
    for name in ("c", "deep/scene_00.01.5"):
        write_frames(folder / name, 3, ".jpg")
    touch(folder, "c/cover.txt")
    rows = [
        {"file_name": "c/", "caption": "one"},
        {"file_name": "deep/scene_00.01.5", "caption": "two"},
        *ROWS,
    ]
    write_jsonl(folder, [{"file_name": row["file_name"], "caption": row.get("caption", "x")} for row in rows])
    dataset, _ = load_dataset(str(folder))
    found = {row["video_id"]: row["video"]["path"] for row in dataset}
    assert found == {
        "c": str(folder / "c"),
        "deep/scene_00.01.5": str(folder / "deep" / "scene_00.01.5"),
        "b": str(folder / "b.webm"),
        "sub/a": str(folder / "sub" / "a.mp4"),
    }
    write_jsonl(folder, ROWS)
    assert read_video_folder(folder).unnamed == [folder / "c", folder / "deep" / "scene_00.01.5"]


def test_a_video_is_named_however_its_path_is_written(folder):
    names = ("../mine/b.webm", str(folder / "sub" / "a.mp4"))
    write_jsonl(folder, [{"file_name": name, "caption": "one"} for name in names])
    assert read_video_folder(folder / ".." / "mine").unnamed == []


def test_blank_captions_are_left_out_with_a_warning(folder, caplog):
    write_jsonl(folder, [{**ROWS[0], "captions": ["two", " ", ""]}, ROWS[1]])
    dataset, protocol = load_dataset(str(folder))
    assert sorted(dataset["captions"]) == [["one"], ["two"]]
    assert protocol.size == "2 videos, one caption a video"  # what is scored, not what the file says
    assert "Left out 2 blank captions" in caplog.text


def test_videos_without_captions_are_left_out_with_a_warning(folder, caplog):
    write_jsonl(folder, ROWS)
    load_dataset(str(folder))
    assert not caplog.text
    touch(folder, "sub/nobody.mov")
    dataset, _ = load_dataset(str(folder))
    assert sorted(dataset["video_id"]) == ["b", "sub/a"]
    assert "Left out 1 videos" in caplog.text and "nobody.mov" in caplog.text


def test_subtitles_alone_serve_pretraining(folder):
    """Captions are asked of a folder for retrieval only."""
    write_jsonl(folder, [{"file_name": "b.webm", "subtitle": "now we cut it", "speaker": 2}])
    assert find_dataset(str(folder)).task == "pretraining"
    dataset, protocol = load_dataset(str(folder))
    row = {"video": {"bytes": None, "path": str(folder / "b.webm")}, "video_id": "b", "subtitle": "now we cut it"}
    assert dataset[:] == {name: [value] for name, value in row.items()}
    assert str(protocol) == "mine (videofolder), train: 1 videos (mine/metadata.jsonl)"
    assert protocol.task == "pretraining"
    (record,) = read_video_folder(folder).records["train"]
    assert record.row() == {**row, "captions": [], "speaker": 2}


def test_the_metadata_is_read_once(folder):
    write_jsonl(folder, [{**row, "split": split} for row, split in zip(ROWS, ("train", "test"))])
    found = find_dataset(str(folder))
    (folder / "metadata.jsonl").unlink()
    assert [found.load(split)[0]["video_id"][:] for split in found.splits] == [["b"], ["sub/a"]]


@pytest.mark.parametrize(
    "rows, error, message",
    [
        (
            [{"file": "b.webm", "label": "x"}],
            ValueError,
            r"columns \['file', 'label'\]; expected file_name and exactly one of",
        ),
        ([{"file_name": "b.webm", "text": "x", "caption": "y"}], ValueError, "exactly one of captions, caption, text"),
        ([{"file_name": "b.webm", "caption": 7}], ValueError, r"row 1, .*: the caption is 7; expected a sentence"),
        ([{"file_name": "b.webm", "captions": ["x", None]}], ValueError, r"row 1, .*: the caption is \['x', None\]"),
        ([{"file_name": "", "caption": "x"}], ValueError, "row 1, .*: file_name is ''"),
        (
            [ROWS[0], {**ROWS[1], "start": "soon"}],
            ValueError,
            "row 2, .*'start': 'soon'.*: could not convert string to float",
        ),
        (
            [{"file_name": "gone.mp4", "captions": ["x"]}, *ROWS],
            FileNotFoundError,
            "1 of 3 annotated videos have no file: gone",
        ),
        ([{"file_name": "b.webm", "captions": ["", " "]}, ROWS[1]], ValueError, "1 videos have no caption.*: b"),
        ([{"file_name": "b.webm", "captions": None}, ROWS[1]], ValueError, "1 videos have no caption.*: b"),
        (
            [{**ROWS[0], "video_id": "v"}, {**ROWS[1], "video_id": "v"}],
            ValueError,
            "2 videos have an id that occurs more than once: v",
        ),
    ],
)
def test_wrong_metadata(folder, rows, error, message):
    write_jsonl(folder, rows)
    with pytest.raises(error, match=message):
        load_dataset(str(folder))


def test_wrong_files(folder):
    with pytest.raises(FileNotFoundError, match=r"No metadata.jsonl .* \(2 videos there\).*one line a video"):
        load_dataset(str(folder))
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"\(no videos there\)"):
        load_dataset(str(folder / "empty"))
    (folder / "metadata.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"metadata.parquet is not in the layout of a metadata file .*Parquet magic"):
        load_dataset(str(folder))
    write_jsonl(folder, ROWS)
    with pytest.raises(ValueError, match="more than one metadata file"):
        load_dataset(str(folder))
    (folder / "metadata.parquet").unlink()
    for line in ('{"file_name": "b.webm"', "7", json.dumps(ROWS)):
        (folder / "metadata.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + line)
        with pytest.raises(ValueError, match="line 2 is not a JSON object"):
            load_dataset(str(folder))
    (folder / "metadata.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metadata.jsonl has the columns \[\]; expected file_name"):
        load_dataset(str(folder))
    row = {"file_name": "b.webm", "caption": "zwölf"}
    for name, text in (("metadata.jsonl", json.dumps(row, ensure_ascii=False)), ("metadata.csv", "caption\nzwölf")):
        (folder / name).write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=rf"{name} is not in .*0xf6.*; expected UTF-8"):
            load_dataset(str(folder))
        (folder / name).unlink()
    (folder / "metadata.csv").write_text('file_name,caption\nb.webm,"one, two",\nsub/a.mp4,one, two\n')
    with pytest.raises(ValueError, match=r"row 2, .*'sub/a.mp4', .*'one', .*two.*: it has more cells"):
        load_dataset(str(folder))
    (folder / "metadata.csv").write_text("file_name;caption\nb.webm;one, two")
    with pytest.raises(ValueError, match=r"columns \['file_name;caption'\].*Commas separate the columns"):
        load_dataset(str(folder))


def test_metadata_is_read_once_and_each_folder_resolved_once(tmp_path, monkeypatch):
    """Of a million rows, each of these took minutes."""
    (tmp_path / "clips").mkdir()
    names = [f"clips/{number}.mp4" for number in range(40)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "again.mp4").symlink_to(tmp_path / names[0])
    rows = [{"file_name": name, "caption": "a"} for name in [*names, "again.mp4"]]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read, resolved = [], []
    read_lines, real_path = video_folder.read_json_lines, os.path.realpath
    monkeypatch.setattr(video_folder, "read_json_lines", lambda file: read.append(file) or read_lines(file))
    monkeypatch.setattr(os.path, "realpath", lambda path, **options: resolved.append(path) or real_path(path))
    dataset = find_dataset(str(tmp_path))
    splits = {split: set(dataset.load(split)[0]["video_id"]) for split in dataset.splits}
    assert read == [tmp_path / "metadata.jsonl"]
    here = sorted(str(path) for path in resolved if str(path).startswith(str(tmp_path)))
    assert here == [str(tmp_path), *[str(tmp_path / "again.mp4")] * 2, str(tmp_path / "clips")]
    assert sum(map(len, splits.values())) == 41
    assert any({"clips/0", "again"} <= ids for ids in splits.values()), "two names of one file are on one side"


@pytest.mark.parametrize("name", ["../other/a.mp4", "OUTSIDE/other/a.mp4", "link.mp4", "folder/a.mp4"])
def test_metadata_do_not_choose_files_outside_unless_the_user_trusts_them(tmp_path, monkeypatch, name):
    touch(tmp_path, "other/a.mp4", "data/b.mp4")
    (tmp_path / "data" / "link.mp4").symlink_to(tmp_path / "other" / "a.mp4")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "other")
    (tmp_path / "alias").symlink_to(tmp_path / "data")  # the user's own link to all of it
    name = name.replace("OUTSIDE", str(tmp_path))
    write_jsonl(tmp_path / "data", [{"file_name": "b.mp4", "caption": "x"}, {"file_name": name, "caption": "x"}])
    with pytest.raises(ValueError, match="row 2, .* leads outside of .*HF_VIDEOLANG_TRUST_DATA=1"):
        read_video_folder(tmp_path / "alias")
    monkeypatch.setenv("HF_VIDEOLANG_TRUST_DATA", "1")
    assert len(read_video_folder(tmp_path / "alias").records["train"]) > 0


@pytest.mark.parametrize("name", ["/etc/passwd", "link.srt", "link.jsonl#b"])
@pytest.mark.parametrize(
    "row",
    [
        {"question": "why?", "answer": "so"},
        {"statement": "so", "answer": True},
        {"moments": [{"text": "so", "start": 0, "end": 1}]},
        {"captions": [{"text": "so", "start": 0, "end": 1}]},
    ],
)
def test_metadata_do_not_choose_subtitles_outside(tmp_path, row, name):
    touch(tmp_path, "b.mp4")
    for link in ("link.srt", "link.jsonl"):
        (tmp_path / link).symlink_to("/etc/passwd")
    write_jsonl(tmp_path, [{"file_name": "b.mp4", "subtitles": name, **row}])
    with pytest.raises(ValueError, match="row 1, .* leads outside of .*HF_VIDEOLANG_TRUST_DATA=1"):
        read_video_folder(tmp_path)


def test_links_that_loop_are_followed_once(tmp_path):
    touch(tmp_path, "one/a.mp4", "two/b.mp4")
    (tmp_path / "one" / "up").symlink_to(tmp_path)
    (tmp_path / "two" / "across").symlink_to(tmp_path / "one")
    assert list_files(tmp_path) == [tmp_path / "one" / "a.mp4", tmp_path / "two" / "b.mp4"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metadata.jsonl", b"[" * 100_000),
        ("metadata.jsonl", b'{"file_name": "a.mp4", "caption": "x", "start": 1e999}'),
        ("metadata.jsonl", b'{"file_name": "a.mp4", "caption": "x", "start": ' + b"9" * 400 + b"}"),
        ("metadata.csv", b"file_name,caption\na.mp4," + b"x" * 200_000),
        ("metadata.parquet", b"PAR1" + bytes(100) + b"PAR1"),
    ],
)
def test_strange_metadata_end_in_one_named_error(tmp_path, file, content):
    """RecursionError, infinity, OverflowError, csv.Error, ArrowInvalid."""
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / file))):
        read_video_folder(tmp_path)
