"""Shared clips, odd and broken files: each in the store or in the report, also after kill -9."""

import shutil
import signal
import time

import pytest
from transformers import AutoVideoProcessor

from hf_videolang.cli import main
from hf_videolang.data.stores.feature_store import FeatureStore
from tests.conversion.s3d.original_file import write_original
from tests.parity.cases import SHARED
from tests.training.tiny_run import start, start_ranks

VIDEOS = SHARED / "data" / "video"
BROKEN = {
    *("audio_only", "empty", "no_streams", "text", "truncated_index_missing", "undecodable"),
    *("corrupted_middle", "truncated.mkv", "truncated_index_present"),
}  # a GIF declares no length, so truncated.gif decodes as a shorter one
TICKS = {"video2": 1196, "video5": 90, "video13": 184, "video24": 300, "video30": 3, "video36": 30}  # videoclip A1


@pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the shared videos are not here ({VIDEOS})")
def test_every_file_is_in_the_store_or_in_the_report(tmp_path, capsys):
    model, folder = tmp_path / "s3d", tmp_path / "videos"
    checkpoint, _ = write_original(tmp_path)
    assert main(["convert", str(checkpoint), "--output-dir", str(model)]) == 0
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    AutoVideoProcessor.from_pretrained(model, **sizes).save_pretrained(model)
    for name in ("edge", "broken"):
        shutil.copytree(VIDEOS / name, folder / name)
    (folder / "clips").mkdir()
    for file in (VIDEOS / "clips").iterdir():
        if file.stem in TICKS:  # tests/test_real_clips.py extracts all of them
            shutil.copy(file, folder / "clips")
    words = ["extract", "--model", model, "--videos", folder, "--cpu", "--videos-per-part", 2, "--output"]
    command = [str(word) for word in words]

    capsys.readouterr()
    assert main([*command, str(tmp_path / "unbroken")]) == 1
    report = capsys.readouterr().out
    store = FeatureStore(tmp_path / "unbroken")
    assert len(store.video_ids) == len(set(store.video_ids)) == sum(file.is_file() for file in folder.rglob("*"))
    broken = {name.removeprefix("broken: broken/").split(": ")[0] for name in report.splitlines()[1:]}
    assert broken == BROKEN
    for name, ticks in TICKS.items():
        assert len(store.features(f"clips/{name}")) == -(-ticks // 30), name

    killed = shutil.copytree(store.folder, tmp_path / "killed")
    absent = sorted(killed.glob("*.parquet"))[::4]
    for part in absent:  # as if only the others had been written
        part.unlink()
    process = start("hf_videolang.cli", *command, killed)
    deadline = time.monotonic() + 120
    while not any(part.exists() for part in absent):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.rename(tmp_path / "moved")
    ranks = start_ranks("hf_videolang.cli", *command, tmp_path / "moved")
    assert [(rank.communicate(timeout=240), rank.returncode)[1] for rank in ranks] == [1, 1]
    stores = (tmp_path / name for name in ("unbroken", "moved"))
    unbroken, moved = ({file.name: file.read_bytes() for file in store.glob("[!.]*")} for store in stores)
    assert moved == unbroken
