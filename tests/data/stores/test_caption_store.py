"""The caption of a row of a shard, `None` for a video without one, and never the caption of another video."""

import pytest

from hf_videolang.data.stores.caption_store import CaptionStore


@pytest.fixture
def store(tmp_path):
    """Names of shards that begin alike. One ends like the number of a part."""
    store = CaptionStore(tmp_path / "captions", {"model": "a"})
    store.write_captions("web-00000000", ["x", "y"], ["one", None], [None, "broken"])
    store.write_captions("web-00000002", ["z"], ["three"], [None])
    store.write_captions("web-00000000-00000000", ["x"], ["of another shard"], [None])
    store.write_captions("web-1-00000000", ["a", "b"], [None, None], ["broken", "broken"])
    return store


def test_the_caption_of_a_row(store):
    assert store.part_name("web", 2) == "web-00000002"
    read = CaptionStore(store.folder)
    captions = [read.caption("web", row, video_id) for row, video_id in enumerate("xyz?")]
    assert captions == ["one", None, "three", None]  # the second is broken, the fourth not captioned yet
    assert read.caption("web-00000000", 0, "x") == "of another shard"
    assert read.caption("web-1", 0, "a") is None and read.caption("we", 0, "x") is None
    assert read.has_shard("web-1") and not read.has_shard("we")


def test_rows_of_one_video_and_a_missing_part(store):
    """Segments of one video may share its id; the part before the last is missing."""
    store.write_captions("cut-00000000", ["v", "v"], ["begins", "ends"], [None, None])
    store.write_captions("cut-00000004", ["v", None], ["later", None], [None, "no record"])
    read = CaptionStore(store.folder)
    assert [read.caption("cut", row, "v") for row in range(6)] == [
        "begins",
        "ends",
        None,
        None,
        "later",
        None,
    ]


def test_a_store_of_other_shards_is_refused(store):
    with pytest.raises(ValueError, match="row 2 of web was z and is now x"):
        CaptionStore(store.folder).caption("web", 2, "x")


def test_other_videos_of_the_same_ids_are_refused(store):
    """The size decides. If it is unknown, or the video has no caption, only the id does."""
    ids, captions, problems = ["a", "b", "c"], ["one", None, "three"], [None, "broken", None]
    store.write_captions("film-00000000", ids, captions, problems, [10, 20, None])
    read = CaptionStore(store.folder)
    with pytest.raises(ValueError, match="row 0 of film was a of 10 bytes and is now a of 11 bytes"):
        read.caption("film", 0, "a", 11)
    assert [read.caption("film", 0, "a", size) for size in (10, None)] == ["one", "one"]
    assert read.caption("film", 1, "b", 21) is None  # it was broken then, and may be repaired now
    assert read.caption("film", 2, "c", 30) == "three"


def test_rows_and_counts(store):
    assert store.count() == (6, 3) and store.count(["web-00000000", "web-00000002"]) == (3, 1)
    assert store.rows("web-00000002") == {2: ("z", "three", None, None)}
    columns = store.read("web-1-00000000").to_pydict()
    assert columns == {
        "video_id": ["a", "b"],
        "caption": [None, None],
        "problem": ["broken", "broken"],
        "num_bytes": [None, None],
    }


def test_only_the_part_of_the_row_is_read(store):
    (store.folder / "web-00000002.parquet").write_bytes(b"no parquet")
    read = CaptionStore(store.folder)
    assert read.caption("web", 0, "x") == "one"
    with pytest.raises(ValueError, match="Parquet"):
        read.caption("web", 2, "z")
