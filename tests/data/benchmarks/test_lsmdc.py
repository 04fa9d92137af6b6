import pytest

from hf_videolang.data import load_dataset
from tests.data.benchmarks.annotations import read, read_records, touch, write

# clip id, start and end aligned, start and end extracted, sentence
LINE = "{}\t00.00.51.926\t00.00.54.129\t00.00.51.000\t00.00.55.000\t{}"
CLIPS = {
    "0001_Some_Film_00.00.51.926-00.00.54.129": 'SOMEONE says "no" and leaves.',
    "0001_Some_Film_00.01.00.100-00.01.04.000": "He sits.",
    "3009_OTHER_FILM_00.10.01.500-00.10.02.750": "Rain falls.",
}


@pytest.fixture
def folder(tmp_path):
    """The lists of the 2016 challenge; a folder of .avi a film, as distributed."""
    lines = [LINE.format(clip, sentence) for clip, sentence in CLIPS.items()]
    write(tmp_path / "lists" / "LSMDC16_challenge_1000_publictect.csv", "\n".join(lines[:2]) + "\n")
    write(tmp_path / "lists" / "LSMDC16_annos_training.csv", "\n".join(lines[1:]) + "\n\n")
    write(tmp_path / "lists" / "LSMDC16_annos_val.csv", lines[2])
    for clip in CLIPS:
        touch(tmp_path, f"videos/{clip[: clip.rindex('_')]}/{clip}.avi")
    return tmp_path


def test_lists_of_the_challenge(folder):
    dataset, protocol = load_dataset("lsmdc", folder)
    clips = list(CLIPS)[:2]
    assert dataset[:] == {
        "video": [
            {"bytes": None, "path": str(folder / "videos" / "0001_Some_Film" / f"{clip}.avi")} for clip in clips
        ],
        "video_id": clips,
        "captions": [['SOMEONE says "no" and leaves.'], ["He sits."]],
    }  # no start and end: the seconds in the list are those of the film
    assert str(protocol) == (
        "lsmdc, test: 2 of 1000 videos, one caption a video (LSMDC16_challenge_1000_publictect.csv)"
    )
    assert list(read("lsmdc", folder, "train")) == list(CLIPS)[1:]
    assert list(read("lsmdc", folder, "validation")) == list(CLIPS)[2:]
    assert read_records("lsmdc", folder, "train+validation")[1].published["videos"] == 101079 + 7408


def test_files_of_the_clip_vip_authors_keep_sub_folders(folder):
    """clip_vip §5.1: `<vis>/<clip_id>.avi`, and nothing else of the same name."""
    for file in (folder / "lists").iterdir():
        file.unlink()
    rows = [
        {"clip_id": "film_a/scene_1", "text": "a door"},
        {"clip_id": "film_b/scene_1", "text": "a window"},
    ]
    write(folder / "lsmdc_test.jsonl", rows)
    touch(folder, "videos/film_a/scene_1.avi", "videos/film_b/scene_1.avi", "videos/scene_1.avi")
    dataset, _ = load_dataset("lsmdc", folder)
    assert dataset["video_id"][:] == ["film_a/scene_1", "film_b/scene_1"]
    assert [video["path"] for video in dataset["video"]] == [
        str(folder / "videos" / "film_a" / "scene_1.avi"),
        str(folder / "videos" / "film_b" / "scene_1.avi"),
    ]
    assert dataset["captions"][:] == [["a door"], ["a window"]]


def test_what_is_wrong(folder):
    write(folder / "lists" / "LSMDC16_annos_val.csv", LINE.format("a", "b") + "\nclip\tonly two")
    with pytest.raises(ValueError, match=r"annos_val.csv is not in the layout of LSMDC \(.*line 2 has 2 columns\)"):
        read_records("lsmdc", folder, "validation")
    with pytest.raises(FileNotFoundError, match="1 of 1 annotated videos have no file: clip.* data check"):
        write(folder / "lists" / "LSMDC16_annos_val.csv", LINE.format("clip", "b"))
        load_dataset("lsmdc", folder, "validation")
