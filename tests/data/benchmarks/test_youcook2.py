import csv
import json

import numpy as np
import pytest

from hf_videolang.data import load_dataset
from hf_videolang.video import decode_video
from tests.data.benchmarks.annotations import PUBLISHED, needs_published, read, read_records, touch, write
from tests.video.making import picture, write_video


def record(subset, *steps):
    annotations = [{"segment": [s, e], "id": i, "sentence": text} for i, (s, e, text) in enumerate(steps)]
    return {"duration": 241.62, "subset": subset, "recipe_type": "113", "annotations": annotations}


@pytest.fixture
def folder(tmp_path):
    """The official file, made up: three steps for each of 40 videos to train, and two videos to test."""
    database = {f"train{i:02d}": record("training", *((s, s + 5, f"{i} {s}") for s in (1, 7, 20))) for i in range(40)}
    database["a-b_c"] = record("validation", (1, 3, "chop lettuce"), (3, 4, "mix"))
    database["gone"] = record("testing")
    write(tmp_path / "youcookii_annotations_trainval.json", {"database": database})
    touch(tmp_path, *(f"raw/training/113/train{i:02d}.webm" for i in range(40)))
    (tmp_path / "raw" / "validation" / "113").mkdir(parents=True)
    write_video(tmp_path / "raw" / "validation" / "113" / "a-b_c.mp4", 45)  # 10 frames a second
    return tmp_path


def test_steps_are_segments_of_a_video(folder):
    dataset, protocol = load_dataset("youcook2", folder)
    path = str(folder / "raw" / "validation" / "113" / "a-b_c.mp4")
    assert dataset[:] == {
        "video": [{"bytes": None, "path": path}] * 2,
        "video_id": ["a-b_c#t=1,3", "a-b_c#t=3,4"],
        "captions": [["chop lettuce"], ["mix"]],
        "start": [1.0, 3.0],
        "end": [3.0, 4.0],
    }
    assert str(protocol).endswith(
        "one caption a video (youcookii_annotations_trainval.json); segments of videos; "
        "test is the official validation"
    )
    for row, frames in zip(dataset, (range(10, 30), range(30, 40))):
        decoded = decode_video(row["video"]["path"], start=row["start"], end=row["end"])
        assert decoded.indices == [*frames]
        np.testing.assert_array_equal(decoded.frames[0].permute(1, 2, 0), picture(frames[0]))


def test_the_validation_comes_from_the_training_videos(folder):
    """All steps of a video are on one side, whether the videos are there or not."""
    train, validation = read("youcook2", folder, "train"), read("youcook2", folder, "validation")
    assert len(train) == 38 * 3 and len(validation) == 2 * 3
    assert not {name[:7] for name in train} & {name[:7] for name in validation}
    for i in range(0, 40, 3):
        (folder / "raw" / "training" / "113" / f"train{i:02d}.webm").unlink()
    assert read("youcook2", folder, "validation") == validation
    assert read_records("youcook2", folder, "train+validation")[1].published["videos"] == 10337


def test_the_retrieval_list_wins(folder):
    write(
        folder / "validation_youcook.csv",
        "end,start,task,text,video_id\n4,3,226, stir,a-b_c\n4,3,226,mix,a-b_c\n",
    )
    dataset, protocol = load_dataset("youcook2", folder)
    assert dataset["video_id"][:] == ["a-b_c#t=3,4"] and dataset["captions"][:] == [["stir", "mix"]]
    assert protocol.published == {"videos": 3349, "captions": 3350}
    write(folder / "val_list.txt", "226/another\n")
    expected = (
        r"youcook2: none of the 1 videos that .*val_list.txt lists \(226/another\) is in .*validation_youcook.csv"
    )
    with pytest.raises(ValueError, match=expected):
        read_records("youcook2", folder)
    write(folder / "val_list.txt", "226/another\n226/a-b_c")
    assert len(read("youcook2", folder, "test")) == 1
    write(folder / "validation_youcook.csv", "end,begin,text,video_id\n4,3,x,a-b_c\n")
    with pytest.raises(ValueError, match=r"not in the layout of YouCook2's retrieval list \(KeyError: 'start'\)"):
        read_records("youcook2", folder)
    (folder / "validation_youcook.csv").unlink()
    write(
        folder / "yc2_val_anet_format.json",
        {"a-b_c": {"duration": 9, "timestamps": [[2, 3]], "sentences": ["fry"]}},
    )
    assert read("youcook2", folder, "test") == {"a-b_c#t=2,3": ["fry"]}


@needs_published
def test_published_files(tmp_path):
    source = PUBLISHED / "youcook2"
    (tmp_path / "youcookii_annotations_trainval.json").symlink_to(source / "yc2_annotations_trainval_200.json")
    database = json.loads((source / "yc2_annotations_trainval_200.json").read_text())["database"]
    steps = {
        s: sum(len(r["annotations"]) for r in database.values() if r["subset"] == s)
        for s in ("training", "validation")
    }
    assert len(read("youcook2", tmp_path, "test")) == steps["validation"] == 563
    assert len(read("youcook2", tmp_path, "train+validation")) == steps["training"] == 1011
    assert read("youcook2", tmp_path, "train")["GLd3aX16zBg#t=90,102"] == [
        "spread margarine on two slices of white bread"
    ]
    (tmp_path / "yc2_val_anet_format.json").symlink_to(source / "yc2_val_anet_format.json")
    records, protocol = read_records("youcook2", tmp_path, "test")
    assert protocol.counts == {"videos": 3491, "captions": 3492}  # two sentences for one segment
    (tmp_path / "validation_youcook.csv").symlink_to(source / "validation_youcook.csv")
    (tmp_path / "val_list.txt").symlink_to(source / "val_list.txt")  # "405/sdB8qBlLS2E", all of them
    records, protocol = read_records("youcook2", tmp_path, "test")
    assert protocol.counts == protocol.published
    with open(source / "validation_youcook.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    found = {
        (record.video_id.partition("#")[0], record.start, record.end, text)
        for record in records
        for text in record.captions
    }
    assert found == {(row["video_id"], float(row["start"]), float(row["end"]), row["text"].strip()) for row in rows}
