"""`hf-videolang extract`: rows of the model alone, resumed and divided work, broken videos, other sources."""

import json
import shutil
import time

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow.parquet import write_table

from hf_videolang.cli import main
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.models.s3d.modeling_s3d import S3DModel
from tests.common.tiny import clip_vip, s3d
from tests.training.tiny_run import kill, start

COMMAND = ("extract", "--videos-per-part", 2, "--batch-size", 2, "--cpu")
LENGTHS = {"a": 25, "b/c": 1, "d": 61, "e": 10, "f": 33}  # frames at 10 a second


def extract(*words, workers: int = 0) -> int:
    return main([*map(str, COMMAND), "--num-workers", str(workers), *map(str, words)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "s3d"
    s3d.tiny_model().save_pretrained(folder)
    s3d.tiny_processor(fps=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five videos, two files that are none, and one without frames."""
    folder, generator = tmp_path_factory.mktemp("videos") / "mine", np.random.default_rng(0)
    (folder / "b").mkdir(parents=True)
    for name, number in LENGTHS.items():
        squares = generator.integers(0, 256, (number, 6, 8, 3), dtype=np.uint8)
        write_video(folder / f"{name}.mp4", squares.repeat(8, axis=1).repeat(8, axis=2), frames_per_second=10)
    (folder / "text.mp4").write_text("dear diary")
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def unbroken(model, videos, tmp_path_factory):
    store = tmp_path_factory.mktemp("stores") / "unbroken"
    assert extract("--model", model, "--videos", videos, "--output", store) == 1
    return store


def contents(store) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in store.iterdir()}


def test_rows_are_those_of_the_model_alone(model, videos, unbroken, capsys):
    store, alone = FeatureStore(unbroken), S3DModel.from_pretrained(model).eval()
    assert set(store.video_ids) == {*LENGTHS, "text", "cut"}
    for name, number in LENGTHS.items():
        pixels = s3d.tiny_processor(fps=4)(videos=[str(videos / f"{name}.mp4")])
        with torch.no_grad():
            rows = alone(**pixels).video_model_output.video_features[0]
        rows = torch.nn.functional.normalize(rows, dim=-1)
        assert len(rows) == -(-max(1, round(number / 10 * 4)) // 4)
        torch.testing.assert_close(store.features(name), rows, rtol=0, atol=5e-4)
    (facts,) = store.extractors
    assert facts["model"] == "s3d" and facts["version"].startswith("sha256:")
    assert (facts["rows_per_second"], facts["width"], facts["normalized"]) == (1.0, 16, True)
    assert "4 a second" in store.description


def test_broken_videos_are_named_with_the_reason(model, videos, unbroken, tmp_path, capsys):
    shutil.copytree(unbroken, tmp_path / "store")
    assert extract("--model", model, "--videos", videos, "--output", tmp_path / "store") == 1
    report = capsys.readouterr().out
    assert "0 of 7 videos read now" in report and "15 rows of 16 numbers" in report
    assert "broken: text: Invalid data" in report and "broken: cut: Invalid data" in report
    assert contents(tmp_path / "store") == contents(unbroken)


def test_a_launch_of_two_processes_is_killed_and_one_process_goes_on(model, videos, unbroken, tmp_path, capsys):
    mine, store, moved = tmp_path / "mine", tmp_path / "store", tmp_path / "moved"
    shutil.copytree(videos, mine)
    write_video(mine / "f.mp4", np.zeros((3000, 48, 64, 3), np.uint8), frames_per_second=10)  # until it is killed
    words = (*COMMAND, "--model", model, "--videos", mine, "--output", store, "--num-workers", 1)
    launch = start("hf_videolang.cli", *words, processes=2)
    deadline = time.monotonic() + 120
    while not list(store.glob("[!.]*.parquet")):
        assert launch.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    kill(launch)
    assert 0 < len(list(store.glob("[!.]*.parquet"))) < 4
    shutil.copy(videos / "f.mp4", mine)
    store.rename(moved)
    assert extract("--model", model, "--videos", mine, "--output", moved) == 1
    report = capsys.readouterr().out
    assert "of 7 videos read now" in report and "7 of 7" not in report and "broken: text: " in report
    names = [name for name in contents(moved) if not name.startswith(".")]
    assert {name: contents(moved)[name] for name in names} == contents(unbroken)


def test_workers_and_added_repaired_and_changed_videos(model, videos, unbroken, tmp_path, capsys):
    """Workers change no byte. Only what has changed is extracted again."""
    mine, store = tmp_path / "mine", tmp_path / "store"
    shutil.copytree(videos, mine)
    assert extract("--model", model, "--videos", mine, "--output", store, workers=2) == 1
    assert contents(store) == contents(unbroken)
    shutil.copy(videos / "d.mp4", mine / "added.mp4")
    shutil.copy(videos / "e.mp4", mine / "text.mp4")
    shutil.copy(videos / "a.mp4", mine / "f.mp4")
    (mine / "cut.mp4").unlink()
    capsys.readouterr()
    assert extract("--model", model, "--videos", mine, "--output", store) == 0
    assert "3 of 7 videos read now" in capsys.readouterr().out
    now, before = FeatureStore(store), FeatureStore(unbroken)
    for name, same in {"added": "d", "text": "e", "f": "a", "a": "a", "d": "d"}.items():
        assert torch.equal(now.features(name), before.features(same)), name
    damaged = store / sorted(contents(store))[0]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert extract("--model", model, "--videos", mine, "--output", store) == 0
    assert set(FeatureStore(store).video_ids) >= {"added", "text", "f", "a", "d"}


def test_raw_rows_and_the_store_of_another_model(model, videos, unbroken, tmp_path, capsys):
    (tmp_path / "one").mkdir()
    shutil.copy(videos / "a.mp4", tmp_path / "one")
    words = ("--videos", tmp_path / "one", "--output")
    assert extract("--model", model, "--raw", *words, tmp_path / "raw") == 0
    raw = FeatureStore(tmp_path / "raw")
    assert not raw.extractors[0]["normalized"] and "raw rows" in raw.description
    unit = torch.nn.functional.normalize(raw.features("a"), dim=-1)
    torch.testing.assert_close(unit, FeatureStore(unbroken).features("a"), rtol=0, atol=2e-3)
    capsys.readouterr()
    assert extract("--model", model, *words, tmp_path / "raw") == 2
    assert "made with other settings (extractors.0.normalized: False there, True now)" in capsys.readouterr().err
    before = contents(tmp_path / "raw")
    other = s3d.tiny_model()
    torch.nn.init.ones_(other.video_model.fc.bias)
    other.save_pretrained(tmp_path / "s3d")
    s3d.tiny_processor(fps=4).save_pretrained(tmp_path / "s3d")
    assert extract("--model", tmp_path / "s3d", "--raw", *words, tmp_path / "raw") == 2
    assert "made with other settings (extractors.0.version: 'sha256:" in capsys.readouterr().err
    assert contents(tmp_path / "raw") == before


def test_a_two_tower_model_gives_one_vector_a_segment(videos, tmp_path):
    clip_vip.tiny_model().save_pretrained(tmp_path / "model")
    clip_vip.tiny_processor(20).save_pretrained(tmp_path / "model")
    shutil.copytree(videos, tmp_path / "mine", ignore=shutil.ignore_patterns("text*", "cut*"))
    rows = [{"file_name": "d.mp4", "caption": "x", "start": 1.0, "end": 3.5}, {"file_name": "a.mp4", "caption": "y"}]
    rows.append({"file_name": "d.mp4", "caption": "z", "start": 3.5})
    (tmp_path / "mine" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert extract("--model", tmp_path / "model", "--videos", tmp_path / "mine", "--output", tmp_path / "store") == 0
    store = FeatureStore(tmp_path / "store")
    assert set(store.video_ids) == {"d#t=1,3.5", "d#t=3.5", "a"}
    assert store.rows_per_second is None and store.extractors[0]["normalized"]
    clip = {"path": str(videos / "d.mp4"), "start": 1.0, "end": 3.5}
    with torch.no_grad():
        expected = clip_vip.tiny_model()(**clip_vip.tiny_processor(20)(videos=[clip])).video_embeds
    torch.testing.assert_close(store.features("d#t=1,3.5"), expected, rtol=0, atol=5e-4)


def test_shards_and_a_benchmark_give_the_rows_of_the_files(model, videos, unbroken, tmp_path):
    (tmp_path / "metadata").mkdir()
    for name in ("a", "d"):
        shutil.copy(videos / f"{name}.mp4", tmp_path / "metadata")
    lines = [json.dumps({"file_name": f"{name}.mp4", "caption": name, "split": "test"}) for name in ("a", "d")]
    (tmp_path / "metadata" / "metadata.jsonl").write_text("\n".join(lines))
    words = ["--data-dir", str(tmp_path / "metadata"), "--output-dir", str(tmp_path / "shards")]
    assert main(["data", "shard", *words]) == 0
    files = {name: {"bytes": (videos / f"{name}.mp4").read_bytes(), "path": None} for name in ("a", "d")}
    rows = [{"video": video, "video_id": name} for name, video in files.items()]
    write_table(pyarrow.Table.from_pylist(rows), tmp_path / "shard.parquet")
    folder = tmp_path / "youcook2"
    (folder / "raw" / "validation" / "113").mkdir(parents=True)
    steps = [{"segment": [second, second + 1], "id": second, "sentence": "cut"} for second in range(2)]
    database = {name: {"subset": "validation", "recipe_type": "113", "annotations": steps} for name in ("a", "d")}
    (folder / "youcookii_annotations_trainval.json").write_text(json.dumps({"database": database}))
    for name in ("a", "d"):
        shutil.copy(videos / f"{name}.mp4", folder / "raw" / "validation" / "113")
    benchmark = ("youcook2", "--data-dir", folder, "--split", "test")
    for number, words in enumerate([(tmp_path / "shards",), (tmp_path / "shard.parquet",), benchmark]):
        output = tmp_path / f"store{number}"
        assert extract("--model", model, "--videos", *words, "--output", output) == 0
        store = FeatureStore(output)
        assert sorted(store.video_ids) == ["a", "d"]
        for name in ("a", "d"):
            assert torch.equal(store.features(name), FeatureStore(unbroken).features(name)), words
