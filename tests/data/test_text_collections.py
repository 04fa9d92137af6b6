"""Texts come out of every kind of source, without the blank ones."""

import json

import pytest
from pyarrow import table
from pyarrow.parquet import write_table

from hf_videolang.data.stores.caption_store import CaptionStore
from hf_videolang.data.text_collections import read_texts
from tests.data.shards.making_shards import write_clip_shards


def test_lines_and_tables(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n  two \n", encoding="utf-8-sig")
    assert read_texts(str(tmp_path / "a.txt")) == ["one", "two"]
    rows = [{"id": 1, "text": ["one", "two"], "other": "x"}, {"id": 2, "text": [" "], "other": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_texts(f"{tmp_path}/a.jsonl") == ["one", "two"]
    assert read_texts(f"{tmp_path}/a.jsonl:other") == ["x"]
    (tmp_path / "a.csv").write_text('id,subtitle\n1,"one, two"\n2,three\n3,"four\nfive"\n')
    assert read_texts(f"{tmp_path}/a.csv") == ["one, two", "three", "four\nfive"]
    write_table(table({"video": [b"bytes"], "caption": ["one"], "text": ["two"]}), tmp_path / "a.parquet")
    assert read_texts(f"{tmp_path}/a.parquet:caption") == ["one"]
    with pytest.raises(ValueError, match="name the one with the texts, as in a.parquet:COLUMN"):
        read_texts(f"{tmp_path}/a.parquet")
    with pytest.raises(ValueError, match=r"as in a.csv:COLUMN \(given: words\)"):
        read_texts(f"{tmp_path}/a.csv:words")
    with pytest.raises(ValueError, match="expected a text or a list of texts"):
        read_texts(f"{tmp_path}/a.csv:id")
    with pytest.raises(FileNotFoundError, match="no file of texts"):
        read_texts(str(tmp_path / "b.txt"))


def test_caption_store_and_video_folder(tmp_path):
    store = CaptionStore(tmp_path / "store", {})
    store.write_captions("a-00000000", ["x", "y"], ["one", None], [None, "broken"])
    assert read_texts(str(tmp_path / "store")) == ["one"]
    (tmp_path / "videos").mkdir()
    rows = [
        {"file_name": "a.mp4", "captions": ["one", "two"], "split": "test"},
        {"file_name": "b.mp4", "captions": ["three"], "split": "validation"},
    ]
    (tmp_path / "videos" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert sorted(read_texts(str(tmp_path / "videos"))) == ["one", "three", "two"]


def test_benchmark(tmp_path):
    """Of MSR-VTT's 1k-A test list, whose videos need not be there."""
    lines = ["key,vid_key,video_id,sentence", "ret0,msr0,video9770,a person is connecting something"]
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text("\n".join(lines))
    assert read_texts(f"msrvtt-1ka:{tmp_path}:test") == ["a person is connecting something"]


def test_shards_are_read_evenly_up_to_a_limit(tmp_path):
    for shard in range(3):
        rows = range(10 * shard, 10 * shard + 10)
        columns = {"video": [{"bytes": b"x", "path": f"{row}.mp4"} for row in rows]}
        columns["subtitle"] = [f"text {row}" if row != 29 else None for row in rows]
        write_table(table(columns), tmp_path / f"train-{shard}.parquet")
    assert read_texts(f"{tmp_path}:subtitle") == [f"text {row}" for row in range(29)]
    assert read_texts(f"{tmp_path}/*.parquet:subtitle", limit=4) == ["text 0", "text 10", "text 19"]
    with pytest.raises(ValueError, match="none of them 'caption'"):
        read_texts(f"{tmp_path}:caption")


def test_a_clip_without_the_field_has_no_text(tmp_path):
    shards = write_clip_shards(tmp_path, clip00={"subtitle": None}, clip07={"subtitle": None})
    expected = [f"somebody says {number}" for number in range(26) if number not in (0, 7)]
    assert read_texts(f"{shards}/*.tar:subtitle") == expected
