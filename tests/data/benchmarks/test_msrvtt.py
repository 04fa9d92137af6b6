import csv
import json

import pytest

from hf_videolang.data import load_dataset
from tests.data.benchmarks.annotations import read_records
from tests.parity.cases import SHARED

# Ids at the borders of the official splits: train up to 6512, validation up to 7009, then test.
TRAIN, VALIDATION, TEST = (
    ["video0", "video6512"],
    ["video6513", "video7009"],
    ["video7010", "video7020", "video9999"],
)
TEST_1KA = ["video9999", "video7020"]
SENTENCES = {video: [f"{video} sentence {i}" for i in range(3)] for video in TRAIN + VALIDATION + TEST}
SPLIT_OF = {
    video: split for split, ids in (("train", TRAIN), ("validate", VALIDATION), ("test", TEST)) for video in ids
}


def msrvtt_json(videos):
    return {
        "info": {},
        "videos": [{"video_id": video, "split": SPLIT_OF[video], "id": i} for i, video in enumerate(videos)],
        "sentences": [{"caption": text, "video_id": video} for video in videos for text in SENTENCES[video]],
    }


def write_1ka(path):
    lines = [f"ret{i},msr{video[5:]},{video},the one of {video}" for i, video in enumerate(TEST_1KA)]
    path.write_text("\n".join(["key,vid_key,video_id,sentence", *lines]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """The sentences, the 1K-A list and a file for every video, in the extensions of the wild."""
    (tmp_path / "annotation").mkdir()
    (tmp_path / "videos" / "all").mkdir(parents=True)
    (tmp_path / "annotation" / "MSRVTT_data.json").write_text(json.dumps(msrvtt_json(SENTENCES)))
    write_1ka(tmp_path / "annotation" / "MSRVTT_JSFUSION_test.csv")
    for video, extension in zip(SENTENCES, [".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif", ".MP4"]):
        (tmp_path / "videos" / "all" / (video + extension)).touch()
    return tmp_path


def ids(folder, name, split):
    return [record.video_id for record in read_records(name, folder, split)[0]]


def test_1ka_is_one_given_sentence_a_video(folder):
    dataset, protocol = load_dataset("msrvtt-1ka", folder)
    assert dataset[:] == {
        "video": [
            {"bytes": None, "path": str(folder / "videos" / "all" / "video9999.MP4")},
            {"bytes": None, "path": str(folder / "videos" / "all" / "video7020.gif")},
        ],
        "video_id": ["video9999", "video7020"],
        "captions": [["the one of video9999"], ["the one of video7020"]],
    }
    assert (protocol.name, protocol.split) == ("msrvtt-1ka", "test")
    assert protocol.counts == {"videos": 2, "captions": 2}
    assert protocol.published == {"videos": 1000, "captions": 1000}
    assert str(protocol) == ("msrvtt-1ka, test: 2 of 1000 videos, one caption a video (MSRVTT_JSFUSION_test.csv)")


def test_9k_without_a_list_is_everything_outside_the_test(folder):
    assert ids(folder, "msrvtt-9k", "train") == [*TRAIN, "video7010"]
    assert ids(folder, "msrvtt-9k", "validation") == VALIDATION
    assert ids(folder, "msrvtt-1ka", "train+validation") == [*TRAIN, "video7010", *VALIDATION]
    dataset, protocol = load_dataset("msrvtt-9k", folder, "train+validation")
    assert dataset[0]["captions"] == SENTENCES["video0"]
    assert (protocol.counts["videos"], protocol.published) == (5, {"videos": 9000, "captions": 180000})


@pytest.mark.parametrize(
    "name, content",
    [
        ("train_list_jsfusion.txt", "video7009\nvideo0"),  # no newline at the end, as published
        ("MSRVTT_train.9k.csv", "video_id\nvideo7009\nvideo0\n"),
    ],
)
def test_9k_list(folder, name, content):
    (folder / name).write_text(content)
    assert ids(folder, "msrvtt-9k", "train") == ["video0"]
    assert ids(folder, "msrvtt-9k", "train+validation") == ["video0", "video7009"]
    (folder / "copy").mkdir()
    (folder / "copy" / name).write_text(content)  # the same list twice is no riddle
    assert ids(folder, "msrvtt-9k", "train") == ["video0"]
    (folder / "copy" / name).write_text(content + "\nvideo6512")
    with pytest.raises(ValueError, match="Several different files"):
        ids(folder, "msrvtt-9k", "train")


def test_a_list_with_one_row_a_sentence_names_a_clip_once(folder):
    (folder / "MSRVTT_train.9k.csv").write_text("video_id,sentence\nvideo7009,a\nvideo0,b\nvideo7009,c\n")
    records, _ = read_records("msrvtt-9k", folder, "train+validation")
    assert [(record.video_id, record.captions) for record in records] == [
        ("video0", ["b"]),
        ("video7009", ["a", "c"]),
    ]


def test_files_of_other_data_sets_are_left_alone(folder):
    """Names that any dataset may have are not taken for lists of MSR-VTT."""
    for name in ("train.jsonl", "test.jsonl", "train_ids.csv", "retrieval_test.csv"):
        (folder / name).write_text("something else")
    (folder / "annotation" / "MSRVTT_JSFUSION_test.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no file with the list '1ka_test'"):
        read_records("msrvtt-1ka", folder)
    write_1ka(folder / "msrvtt_test.csv")
    assert ids(folder, "msrvtt-9k", "train") == [*TRAIN, "video7010"]


def test_full_and_7k(folder):
    assert ids(folder, "msrvtt-full", "train") == TRAIN
    assert ids(folder, "msrvtt-full", "validation") == VALIDATION
    dataset, protocol = load_dataset("msrvtt-full", folder, "test")
    assert dataset["video_id"][:] == TEST and dataset["captions"][:] == [SENTENCES[video] for video in TEST]
    assert protocol.published == {"videos": 2990, "captions": 59800}
    assert read_records("msrvtt-full", folder, "train")[1].published["videos"] == 6513
    assert ids(folder, "msrvtt-7k-1ka", "train+validation") == TRAIN + VALIDATION
    assert ids(folder, "msrvtt-7k-1ka", "test") == TEST_1KA
    (folder / "test_list_full.txt").write_text("video7020")  # a list wins over the split in the json
    assert ids(folder, "msrvtt-full", "test") == ["video7020"]

    (folder / "train_list_miech.txt").write_text("video9999\nvideo7009\nvideo0\n")
    (folder / "test_list_miech.txt").write_text("video6512\n")
    assert ids(folder, "msrvtt-7k", "train") == ["video9999", "video0"]
    assert ids(folder, "msrvtt-7k", "validation") == ["video7009"]
    records, protocol = read_records("msrvtt-7k", folder, "test")
    assert [record.captions for record in records] == [SENTENCES["video6512"]]
    assert protocol.published["videos"] == 1000
    assert read_records("msrvtt-7k", folder, "train+validation")[1].published["videos"] == 6656


def test_official_download_comes_in_two_files(folder):
    (folder / "annotation" / "MSRVTT_data.json").unlink()
    (folder / "train_val_videodatainfo.json").write_text(json.dumps(msrvtt_json(TRAIN + VALIDATION)))
    (folder / "test_videodatainfo.json").write_text(json.dumps(msrvtt_json(TEST)))
    assert ids(folder, "msrvtt-full", "train+validation+test") == TRAIN + VALIDATION + TEST
    assert ids(folder, "msrvtt-9k", "train") == [*TRAIN, "video7010"]


def test_image_id_and_annotations(folder):
    """The keys of MSR_VTT.json, which has no official splits."""
    annotations = [{"caption": text, "image_id": video} for video, texts in SENTENCES.items() for text in texts]
    (folder / "annotation" / "MSRVTT_data.json").unlink()
    (folder / "annotation" / "MSR_VTT.json").write_text(json.dumps({"annotations": annotations}))
    assert read_records("msrvtt-9k", folder, "train")[0][0].captions == SENTENCES["video0"]
    with pytest.raises(FileNotFoundError, match="'full_train'.*train_list_full.txt"):
        read_records("msrvtt-full", folder, "train")


def test_authors_jsonl_alone(folder):
    """clip_vip §5.1: clip_id with or without folder and extension, text a sentence or a list."""
    for file in (folder / "annotation").iterdir():
        file.unlink()
    train = [
        {"clip_id": "video0", "text": ["a", "b"]},
        {"clip_id": "msrvtt/video6513.mp4", "text": ["c"]},
    ]
    test = [
        {"clip_id": "video9999", "text": "one sentence"},
        {"clip_id": "video7020", "text": ["two", "three"]},
    ]
    (folder / "msrvtt_train9k.jsonl").write_text("\n".join(map(json.dumps, train)))
    (folder / "msrvtt_test1ka.jsonl").write_text("\n".join(map(json.dumps, test)) + "\n\n")
    dataset, _ = load_dataset("msrvtt-1ka", folder)
    # a list is kept whole: the original would draw one sentence of it, even in the test
    assert dataset["captions"][:] == [["one sentence"], ["two", "three"]]
    dataset, _ = load_dataset("msrvtt-9k", folder, "train+validation")
    assert dataset["video_id"][:] == ["video0", "video6513"]
    assert dataset["captions"][:] == [["a", "b"], ["c"]]

    (folder / "msrvtt_test1ka.jsonl").unlink()
    (folder / "msrvtt_test1ka.json").write_text(json.dumps(test))  # the other form: one list
    assert load_dataset("msrvtt-1ka", folder)[0]["captions"][:] == [
        ["one sentence"],
        ["two", "three"],
    ]
    (folder / "msrvtt_test1ka.json").unlink()

    (folder / "msrvtt_test1ka.jsonl").write_text('{"clip_name": "video9999", "text": "one"}\n')
    with pytest.raises(ValueError, match=r"test1ka\.jsonl .*clip_name.*; expected .*clip_id"):
        load_dataset("msrvtt-1ka", folder)
    for wrong in (
        {"clip_id": "video3", "text": [1, None]},
        {"clip_id": 3, "text": "one"},
        ["clip_id", "text"],
    ):
        (folder / "msrvtt_test1ka.jsonl").write_text("\ufeff\n" + json.dumps(wrong))  # a BOM, a blank line
        with pytest.raises(ValueError, match=r"msrvtt_test1ka\.jsonl is not in the layout of .*expected"):
            read_records("msrvtt-1ka", folder)
    (folder / "msrvtt_test1ka.jsonl").write_text("video9999\n")
    with pytest.raises(ValueError, match="line 1 is not a JSON object"):
        load_dataset("msrvtt-1ka", folder)


def test_a_copy_without_official_validation_videos_holds_some_out(folder):
    """As the official ones in a real copy: apart from training, and the same at every call."""
    videos = [f"video{i}" for i in range(20)]
    (folder / "annotation" / "train.9k.csv").write_text("\n".join(["video_id", *videos]))
    content = {"sentences": [{"caption": "x", "video_id": video} for video in videos]}
    (folder / "annotation" / "MSRVTT_data.json").write_text(json.dumps(content))
    train, validation = (ids(folder, "msrvtt-9k", split) for split in ("train", "validation"))
    assert len(validation) == 2 and sorted(train + validation) == sorted(videos)
    assert validation == ids(folder, "msrvtt-9k", "validation")


def test_what_is_missing_is_named(folder):
    (folder / "videos" / "all" / "video7020.gif").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 annotated videos .*video7020.*data check"):
        load_dataset("msrvtt-1ka", folder)
    (folder / "videos" / "video9999.avi").touch()
    with pytest.raises(ValueError, match="2 files for video9999"):
        load_dataset("msrvtt-1ka", folder)
    with pytest.raises(FileNotFoundError, match=r"'miech_train'.*train_list_miech.txt.*there: .*MSRVTT_data.json"):
        read_records("msrvtt-7k", folder, "train")
    (folder / "train_list_jsfusion.txt").write_text("video0 video1")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 videos have no captions in .*: video1\."):
        read_records("msrvtt-9k", folder, "train")
    for content in ('{"videos": []}', '{"sentences": [{"caption": "x"}]}', "[1]", "{"):
        (folder / "annotation" / "MSRVTT_data.json").write_text(content)
        with pytest.raises(ValueError, match=r"MSRVTT_data.json is not in the layout of MSR-VTT \(.*expected"):
            read_records("msrvtt-9k", folder, "train")
    (folder / "annotation" / "MSRVTT_data.json").unlink()
    with pytest.raises(FileNotFoundError, match="no file with the sentences of all videos"):
        read_records("msrvtt-9k", folder, "train")
    (folder / "annotation" / "MSRVTT_JSFUSION_test.csv").write_text("key,name\nret0,video9999\n")
    with pytest.raises(ValueError, match=r"KeyError: 'video_id'\); expected the columns video_id"):
        read_records("msrvtt-1ka", folder)
    for row in ("video9999", "video9999,a man, who sings"):
        (folder / "annotation" / "MSRVTT_JSFUSION_test.csv").write_text(f"video_id,sentence\n{row}\n")
        with pytest.raises(ValueError, match="'video9999'.* are more or fewer cells than the header has"):
            read_records("msrvtt-1ka", folder)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("msrvtt-2ka", "DIR"),
            "No dataset 'msrvtt-2ka' .*: expected .*msrvtt-1ka, msrvtt-9k, .*videofolder",
        ),
        (("msrvtt-1ka",), "'msrvtt-1ka' with data_dir None: expected a benchmark"),
        (("msrvtt-1ka", "DIR", "val"), "no split val; it has train, validation, test"),
        (("msrvtt-1ka", "DIR/absent"), "No folder '.*absent'"),
    ],
)
def test_wrong_arguments(folder, arguments, message):
    arguments = [argument.replace("DIR", str(folder)) for argument in arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_dataset(*arguments)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the published lists are in ../shared/data")
def test_published_lists(tmp_path):
    """Sizes of the real lists (some end without a newline), and how they overlap."""
    published = SHARED / "data" / "annotations_original" / "msrvtt"
    for file in published.iterdir():
        (tmp_path / file.name).symlink_to(file)
    sentences = [{"caption": f"about video{number}", "video_id": f"video{number}"} for number in range(10000)]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps({"sentences": sentences}))
    found = {}
    for name in ("msrvtt-9k", "msrvtt-7k", "msrvtt-7k-1ka", "msrvtt-full"):
        for split in ("train", "validation", "test", "train+validation"):
            records, protocol = read_records(name, tmp_path, split)
            assert protocol.counts["videos"] == protocol.published["videos"]
            one_each = split == "test" and name in ("msrvtt-9k", "msrvtt-7k-1ka")
            assert protocol.published["captions"] == len(records) * (1 if one_each else 20)
            found[name, split] = {record.video_id for record in records}
            assert len(found[name, split]) == len(records)
        assert not found[name, "train"] & found[name, "validation"]
        assert not found[name, "train+validation"] & found[name, "test"]
    sizes = {name: len(found[name, "train+validation"]) for name, _ in found}
    assert sizes == {"msrvtt-9k": 9000, "msrvtt-7k": 6656, "msrvtt-7k-1ka": 7010, "msrvtt-full": 7010}
    assert len(found["msrvtt-full", "train"]) == 6513 and len(found["msrvtt-full", "test"]) == 2990
    assert len(found["msrvtt-7k", "train+validation"] & found["msrvtt-9k", "test"]) == 453  # why they never mix
    with open(published / "msrvtt_test.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    records, _ = read_records("msrvtt-1ka", tmp_path)
    assert [(record.video_id, record.captions) for record in records] == [
        (r["video_id"], [r["sentence"]]) for r in rows
    ]
    (tmp_path / "train_list_jsfusion.txt").unlink()
    assert {record.video_id for record in read_records("msrvtt-9k", tmp_path, "train")[0]} == found[
        "msrvtt-9k", "train"
    ]


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the hand-captioned clips are in ../shared/data")
def test_real_clips_in_the_layout_of_msrvtt(tmp_path):
    annotations = SHARED / "data" / "video" / "annotations"
    (tmp_path / "MSRVTT_data.json").symlink_to(annotations / "msrvtt_style.json")
    (tmp_path / "clips").symlink_to(SHARED / "data" / "video" / "clips")
    with open(annotations / "captions.jsonl") as lines:
        expected = {row["video_id"]: row for row in map(json.loads, lines)}
    for split in ("train+validation", "test"):
        dataset, _ = load_dataset("msrvtt-full", tmp_path, split)
        assert set(dataset["video_id"]) == {v for v, row in expected.items() if row["split"] == split.split("+")[0]}
        for row in dataset:
            assert row["captions"] == expected[row["video_id"]]["captions"]
            assert row["video"]["path"] == str(tmp_path / expected[row["video_id"]]["file"])
