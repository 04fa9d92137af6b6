import json

import pytest

from hf_videolang.data import load_dataset
from hf_videolang.data.records import Record
from hf_videolang.data.validation_split import split_off_validation
from tests.data.benchmarks.annotations import PUBLISHED, needs_published, read, read_records, touch, write
from tests.video.making import write_frames


def record(*sentences):
    """Time stamps need not ascend: v_D0pVkTEYQg8 of val_1 begins with its second segment."""
    times = [[10.0 - i, 20.0] for i in range(len(sentences))]
    return {"duration": 60.5, "timestamps": times, "sentences": list(sentences)}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "captions" / "train.json", {f"v_{i:02d}": record(f"Video {i}.") for i in range(40)})
    val_1 = {"v_-b": record("He warms up.", "  Then he lifts. "), "v__a": record("A dog.")}
    write(tmp_path / "captions" / "val_1.json", val_1)
    write(tmp_path / "captions" / "val_2.json", {"v__a": record("A dog, seen by someone else.")})
    touch(tmp_path, *(f"videos/v_{i:02d}.mkv" for i in range(40)), "videos/v_-b.mp4")
    write_frames(tmp_path / "frames" / "v__a", 3, ".jpg")
    return tmp_path


def test_val_1_as_paragraphs(folder):
    dataset, protocol = load_dataset("activitynet", folder)
    assert dataset[:] == {
        "video": [
            {"bytes": None, "path": str(folder / "videos" / "v_-b.mp4")},
            {"bytes": None, "path": str(folder / "frames" / "v__a")},
        ],
        "video_id": ["v_-b", "v__a"],
        "captions": [["He warms up. Then he lifts."], ["A dog."]],
    }
    assert str(protocol) == (
        "activitynet, test: 2 of 4917 videos, one caption a video (val_1.json); all sentences of a video as one "
        "paragraph; test is val1"
    )


def test_the_validation_comes_from_the_training_videos(folder):
    """A checkpoint that is chosen by it has not been chosen by val1."""
    train, validation = read("activitynet", folder, "train"), read("activitynet", folder, "validation")
    assert len(validation) == 2 and not train.keys() & validation.keys()
    assert sorted(train | validation) == [f"v_{i:02d}" for i in range(40)]
    assert read("activitynet", folder, "validation") == validation
    protocol = read_records("activitynet", folder, "train+validation")[1]
    assert (protocol.counts["videos"], protocol.published) == (40, {"videos": 10009, "captions": 10009})
    for split, size in (("train", 10009 - 2), ("validation", 2)):
        protocol = read_records("activitynet", folder, split)[1]
        assert protocol.published == {"videos": size, "captions": size}
    published = [Record(f"v_{number}", captions=["x"]) for number in range(10009)]
    assert len(split_off_validation(published, 0.05)[1]) == 500


def test_files_of_the_clip_vip_authors(folder):
    for name in ("train", "val_1", "val_2"):
        (folder / "captions" / f"{name}.json").unlink()
    rows = [{"clip_id": "v__a", "text": "He warms up. Then he lifts.", "num_frame": 3}]
    write(folder / "val1.jsonl", rows)
    write(folder / "activitynet_train.jsonl", [{**rows[0], "clip_id": f"v_{i:02d}"} for i in range(20)])
    [record], _ = read_records("activitynet", folder)
    assert (record.captions, record.num_frames) == (["He warms up. Then he lifts."], 3)
    assert record.path == folder / "frames" / "v__a"
    assert len(read("activitynet", folder, "train")) == 19
    for wrong in (3.5, "3"):
        write(folder / "val1.jsonl", [{**rows[0], "num_frame": wrong}])
        with pytest.raises(ValueError, match=r"val1.jsonl .*'num_frame': '?3.*num_frame., a whole number"):
            read_records("activitynet", folder)
    (folder / "val1.jsonl").write_text(json.dumps(rows[0]) + "\n\n{\n")
    with pytest.raises(ValueError, match="val1.jsonl .*line 3 is not a JSON object: "):
        read_records("activitynet", folder)
    (folder / "val1.jsonl").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="val1.jsonl .*line 1 is not a JSON object: .*codec"):
        read_records("activitynet", folder)


def test_what_is_wrong(folder):
    one_time = {"v_a": {**record("one", "two"), "timestamps": [[0, 1]]}}
    for content in (one_time, {"v_a": "a paragraph"}, [1], "{"):
        write(folder / "captions" / "val_1.json", content)
        with pytest.raises(
            ValueError, match=r"val_1.json is not in the layout of ActivityNet Captions \(.*expected \{"
        ):
            read_records("activitynet", folder)


@needs_published
def test_published_files(tmp_path):
    source = PUBLISHED / "activitynet_captions"
    (tmp_path / "train.json").symlink_to(source / "train_first200.json")
    (tmp_path / "val_1.json").symlink_to(source / "anet_entities_val_1_first200.json")
    for name in ("train_list.txt", "val_1_list.txt"):
        (tmp_path / name).symlink_to(source / name)
    test = read("activitynet", tmp_path, "test")
    assert len(test) == 200 and test["v_uqiMw7tQ1Cc"] == [
        "A weight lifting tutorial is given. The coach helps the guy in red with the proper body placement and "
        "lifting technique."
    ]
    published = json.loads((source / "anet_entities_val_1_para_first200.json").read_text())
    assert {v: caption.split() for v, [caption] in test.items()} == {v: text.split() for v, text in published.items()}
    train, validation = (read("activitynet", tmp_path, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (190, 10)
    assert len((source / "train_list.txt").read_text().split()) == 10009
    assert len((source / "val_1_list.txt").read_text().split()) == 4917
