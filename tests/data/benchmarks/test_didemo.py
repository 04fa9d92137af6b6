import json

import pytest

from hf_videolang.data import load_dataset
from tests.data.benchmarks.annotations import PUBLISHED, needs_published, read, read_records, touch, write


def row(video, description, number):
    return {
        "num_segments": 6,
        "description": description,
        "dl_link": "https://example.org/1",
        "times": [[1, 1]],
        "video": video,
        "annotation_id": number,
    }


@pytest.fixture
def folder(tmp_path):
    """The authors' three files, made up, and videos under the names of the wild."""
    write(
        tmp_path / "data" / "train_data.json",
        [row("10@N00_1_ab.avi", "a cat", 1), row("11@N00_2_cd.", "a dog", 2)],
    )
    write(tmp_path / "data" / "val_data.json", [row("12@N00_3_ef.m2ts", "a bird", 3)])
    test = [row("13@N00_4_aa.mov", "dog runs left ", 9), row("14@N00_5_bb.mp4", "\na fish", 5)]
    test += [row("13@N00_4_aa.mov", "dog is gone", 4), row("13@N00_4_aa.mp4", "it is back", 6)]
    write(tmp_path / "data" / "test_data.json", test)
    touch(tmp_path, "videos/10@N00_1_ab.avi", "videos/11@N00_2_cd.", "videos/re/12@N00_3_ef.m2ts.mp4")
    touch(tmp_path, "videos/re/13@N00_4_aa.mov.mp4", "videos/14@N00_5_bb.MP4")
    return tmp_path


def test_paragraphs(folder):
    """All sentences of a video in the order of the file; two names that differ in the extension are one video."""
    dataset, protocol = load_dataset("didemo", folder)
    assert dataset[:] == {
        "video": [
            {"bytes": None, "path": str(folder / "videos" / "re" / "13@N00_4_aa.mov.mp4")},
            {"bytes": None, "path": str(folder / "videos" / "14@N00_5_bb.MP4")},
        ],
        "video_id": ["13@N00_4_aa", "14@N00_5_bb"],
        "captions": [["dog runs left dog is gone it is back"], ["a fish"]],
    }
    assert str(protocol) == (
        "didemo, test: 2 of 1004 videos, one caption a video (test_data.json); "
        "all sentences of a video as one paragraph"
    )
    assert protocol.published == {"videos": 1004, "captions": 1004}


def test_splits_and_names(folder):
    dataset, protocol = load_dataset("didemo", folder, "train+validation")
    assert dataset["video_id"][:] == ["10@N00_1_ab", "11@N00_2_cd", "12@N00_3_ef"]
    paths = [video["path"].removeprefix(f"{folder}/videos/") for video in dataset["video"]]
    assert paths == ["10@N00_1_ab.avi", "11@N00_2_cd.", "re/12@N00_3_ef.m2ts.mp4"]
    assert protocol.published["videos"] == 8392 + 1065


def test_a_list_cuts_a_split(folder):
    write(folder / "lists" / "test_list.txt", "14@N00_5_bb.mp4\n99@N00_9_zz.mov")
    assert read("didemo", folder, "test") == {"14@N00_5_bb": ["a fish"]}
    assert len(read("didemo", folder, "train")) == 2


@pytest.mark.parametrize("name", ["didemo_retrieval_test.jsonl", "test.jsonl", "didemo_test.json"])
def test_files_of_the_clip_vip_authors(folder, name):
    """clip_vip §5.1; a public file wins over them."""
    write(folder / name, [{"clip_id": "vids/13@N00_4_aa.mov", "text": ["dog runs left", "dog is gone"]}])
    assert len(read("didemo", folder, "test")) == 2
    (folder / "data" / "test_data.json").unlink()
    assert read("didemo", folder, "test") == {"13@N00_4_aa": ["dog runs left dog is gone"]}
    assert read_records("didemo", folder, "test")[0][0].path == folder / "videos" / "re" / "13@N00_4_aa.mov.mp4"


def test_what_is_missing_or_wrong(folder):
    touch(folder, "videos/13@N00_4_aa.avi")
    with pytest.raises(ValueError, match="2 files for 13@N00_4_aa: "):
        read_records("didemo", folder)
    write(folder / "data" / "test_data.json", [{"video": "x.mov"}])
    with pytest.raises(ValueError, match=r"test_data.json is not in the layout of DiDeMo \(KeyError: 'description'\)"):
        read_records("didemo", folder)
    (folder / "data" / "val_data.json").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"didemo: no file with the captions of validation. Expected one of val_data.json, "
        r"\*didemo\*val\*.jsonl, .*there: test_data.json, train_data.json. Get the dataset at https://github.com/LisaAnne/LocalizingMoments",
    ):
        read_records("didemo", folder, "validation")


@needs_published
def test_published_files(tmp_path):
    for name, file in (
        ("test_data", "test_data"),
        ("val_data", "val_data_first200"),
        ("val_list", "val_list"),
        ("train_list", "train_list"),
        ("test_list", "test_list"),
    ):
        end = ".json" if "data" in name else ".txt"
        (tmp_path / (name + end)).symlink_to(PUBLISHED / "didemo" / (file + end))
    test = read("didemo", tmp_path, "test")
    assert len(test) == 1004
    assert test["26292851@N04_4253489686_265c3c8051"] == [
        "someone kicks the bug towards some rocks. a man in a red shirt stomps on a centipede. man in white shirt is "
        "seen close up of a millipede on the rocks first time foot swipes at wiggly thing"
    ]
    rows = json.loads((tmp_path / "test_data.json").read_text())
    expected: dict[str, str] = {}
    for number, annotation in enumerate(rows):  # a slow twin: one video after the other
        video = annotation["video"].rpartition(".")[0]
        if video not in expected:
            same = [
                other["description"].strip() for other in rows[number:] if other["video"].rpartition(".")[0] == video
            ]
            expected[video] = " ".join(same)
    assert {video: caption for video, [caption] in test.items()} == expected
    (tmp_path / "test_list.txt").unlink()
    assert read("didemo", tmp_path, "test") == test
    assert len(read("didemo", tmp_path, "validation")) == 181
    lists = {s: (tmp_path / f"{s}_list.txt") for s in ("train", "val")}
    counts = {
        split: len({line.rpartition(".")[0] for line in path.read_text().split()}) for split, path in lists.items()
    }
    assert counts == {"train": 8392, "val": 1065}
