"""A part is complete or absent, also after an exception or a kill; damage and other settings are errors."""

import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.stores.part_store import PartStore


def test_parts_are_read_back_and_other_settings_are_refused(tmp_path):
    store = PartStore(tmp_path / "store", {"model": "a", "frames": 12})
    store.write("shard-00000", {"video_id": ["x", "y"], "caption": ["one", "two"]})
    store.write("shard-00001", {"video_id": ["z"], "caption": ["three"]})
    store.write("shard-00001", {"video_id": ["z"], "caption": ["four"]})  # replaced, not duplicated
    again = PartStore(tmp_path / "store", {"frames": 12, "model": "a"})
    assert again.names() == ["shard-00000", "shard-00001"]
    assert [row for name in again.names() for row in again.read(name).to_pylist()] == [
        {"video_id": "x", "caption": "one"},
        {"video_id": "y", "caption": "two"},
        {"video_id": "z", "caption": "four"},
    ]
    assert PartStore(tmp_path / "store").provenance == {"model": "a", "frames": 12}
    with pytest.raises(ValueError, match=r"made with other settings \(frames: 12 there, 8 now\)"):
        PartStore(tmp_path / "store", {"model": "a", "frames": 8})
    with pytest.raises(FileNotFoundError, match="is not a store"):
        PartStore(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_damage_is_an_error(tmp_path):
    store = PartStore(tmp_path, {"model": "a"})
    store.write("part", {"number": [0.25] * 10, "other": [0.75] * 10})
    file, facts = tmp_path / "part.parquet", tmp_path / "store.json"
    whole = file.read_bytes()
    assert store.is_whole("part") and not store.is_whole("absent")
    flipped = bytearray(whole)
    flipped[whole.index(struct.pack("<d", 0.75))] ^= 1
    for damaged in (b"", whole[:-1], flipped):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"part\.parquet is damaged .* Run the command that made it again"):
            store.read("part")
        assert not store.is_whole("part")
    for damaged in ("", '{"model": "a"'):
        facts.write_text(damaged)
        with pytest.raises(ValueError, match=r"store\.json is damaged .*; remove"):
            PartStore(tmp_path, {"model": "a"})
    facts.unlink()  # parts of an unknown model must not be used
    with pytest.raises(ValueError, match="holds part but no store.json"):
        PartStore(tmp_path, {"model": "b"})


def test_a_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(OSError, match="disk"), atomic_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_kill_leaves_nothing_under_the_name(tmp_path):
    code = (
        "import os, signal, sys; from hf_videolang.atomic_files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('ha'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "part.parquet"], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = PartStore(tmp_path, {})
    assert store.names() == [] and not (tmp_path / "part.parquet").exists()
    assert json.loads((tmp_path / "store.json").read_text()) == {}
