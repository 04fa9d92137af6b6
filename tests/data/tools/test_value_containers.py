"""VALUE's containers: the golden databases, files of two extractors, texts; files that lie or are not whole."""

import io
import json
import pickle
import shutil
import sys

import lmdb
import lz4.frame
import msgpack
import numpy as np
import pytest

from hf_videolang.cli import main
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.video.subtitles import read_subtitle_lines
from tests.parity.cases import REPOSITORY, Case

CASE = Case(REPOSITORY / "tests" / "fixtures" / "hero" / "data_pipeline")
DATABASES = CASE.path / "lmdb"
VIDEOS = ("talk_01", "cook_02", "mute_03")


def features(video: str, *kinds: str) -> list[np.ndarray]:
    return [CASE.inputs[f"feat_{kind}/{video}"].numpy() for kind in kinds]


def joined(video: str) -> np.ndarray:
    both = features(video, "2d", "3d")
    count = min(map(len, both))
    return np.concatenate([rows[:count] for rows in both], axis=1)


def run(*words) -> int:
    return main(["data", "import-features", *map(str, words)])


def write_database(folder, values: dict[str, bytes]):
    with lmdb.open(str(folder), map_size=1 << 22) as database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    return folder


def npz(**arrays) -> bytes:
    np.savez_compressed(buffer := io.BytesIO(), **arrays)
    return buffer.getvalue()


# ---- features ----


@pytest.mark.parametrize("name", ["clip-vit_slowfast_1.5", "clip-vit_slowfast_1.5_compressed"])
def test_golden_databases_give_the_features_that_they_were_made_of(tmp_path, capsys, caplog, name):
    for _ in range(2):  # the second run finds its part
        assert run("--value-lmdb", DATABASES / "video" / name, "--output", tmp_path / "store") == 0
    assert "3 videos with 27 rows of 15 numbers" in capsys.readouterr().out
    assert "has 2816: the features count as unknown" in caplog.text  # the golden rows are narrower
    store = FeatureStore(tmp_path / "store")
    assert store.name is None and store.rows_per_second == 1 / 1.5
    for video in VIDEOS:
        np.testing.assert_array_equal(store.features(video), joined(video))


def test_the_list_of_frames_cuts_longer_features(tmp_path):
    shutil.copytree(DATABASES / "video", tmp_path / "video")
    (tmp_path / "video" / "id2nframe_1.5.json").write_text('{"talk_01": 5, "cook_02": 60}')
    assert run("--value-lmdb", tmp_path / "video" / "clip-vit_slowfast_1.5", "--output", tmp_path / "store") == 0
    store = FeatureStore(tmp_path / "store")
    assert [len(store.features(video)) for video in VIDEOS] == [5, 6, 7]


def write_npz(folder, width: int, videos: dict[str, int], save=np.savez) -> None:
    folder.mkdir(parents=True)
    for video, rows in videos.items():
        values = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float16)
        save(folder / f"{video}.npz", features=values, allow_pickle=np.array(True))


def test_two_folders_of_files_are_joined_and_named(tmp_path, capsys):
    write_npz(tmp_path / "resnet", 2048, {"a": 4, "b": 3, "only_2d": 2, "empty": 2})
    write_npz(tmp_path / "mil-nce-s3d", 1024, {"a": 3, "b": 5}, np.savez_compressed)
    (tmp_path / "mil-nce-s3d" / "empty.npz").touch()
    two = ("--npz-2d", tmp_path / "resnet", "--npz-3d", tmp_path / "mil-nce-s3d")
    assert run(*two, "--output", tmp_path / "store") == 1
    output = capsys.readouterr().out
    assert "2 videos with 6 rows of 3072 numbers" in output and output.count("from ") == 2
    assert "2 videos have no features and are left out: only_2d, empty" in output
    store = FeatureStore(tmp_path / "store")
    assert store.name == "resnet_mil-nce" and [one["width"] for one in store.extractors] == [2048, 1024]
    with np.load(tmp_path / "resnet" / "b.npz") as frames, np.load(tmp_path / "mil-nce-s3d" / "b.npz") as clips:
        expected = np.concatenate([frames["features"], clips["features"][:3]], axis=1)
    np.testing.assert_array_equal(store.features("b"), expected)


def test_a_name_of_another_width_and_half_of_a_pair(tmp_path, capsys):
    database = ("--value-lmdb", DATABASES / "video" / "clip-vit_slowfast_1.5", "--output", tmp_path / "store")
    assert run(*database, "--name", "resnet_slowfast") == 2
    assert "has rows of 15 numbers, but resnet_slowfast has 4352" in capsys.readouterr().err
    assert run("--npz-2d", tmp_path, "--output", tmp_path / "store") == 2
    assert "belong together" in capsys.readouterr().err
    assert run("--value-lmdb", DATABASES / "video", "--output", tmp_path / "store") == 2
    assert "its folders clip-vit_slowfast_1.5, clip-vit_slowfast_1.5_compressed are" in capsys.readouterr().err
    assert run(*database, "--name", "ours") == 0
    assert FeatureStore(tmp_path / "store").name == "ours"


# ---- files that lie or are not whole ----


class Poison:
    def __reduce__(self):
        return print, ("executed",)


def packed(**changed) -> bytes:
    facts = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2, 2], b"data": bytes(16)}
    return msgpack.packb({"features": {**facts, **{name.encode(): value for name, value in changed.items()}}})


@pytest.mark.parametrize(
    "value",
    [
        pickle.dumps({"features": Poison()}),
        packed(type="|O", kind=b"O", data=pickle.dumps(Poison())),
        packed(type="<i4"),
        packed(shape=[1 << 40, 1 << 40]),
        msgpack.packb({"features": msgpack.ExtType(1, pickle.dumps(Poison()))}),
        msgpack.packb({"other": 1}),
        packed()[:-4],
        npz(features=np.array([Poison()], dtype=object)),
        npz(features=np.float32(1)),
        npz(other=np.eye(2)),
        npz(features=np.eye(40))[:-60],
        b"",
    ],
)
def test_a_value_that_is_no_array_of_floats_is_one_line(tmp_path, capsys, value):
    database = write_database(tmp_path / "db_1.5", {"a": npz(features=np.eye(2, dtype=np.float32)), "b": value})
    assert run("--value-lmdb", database, "--output", tmp_path / "store") == 2
    output, error = capsys.readouterr()
    assert f"{database / 'b'} is not in the layout of VALUE's features" in error and "Traceback" not in error
    assert "executed" not in output and not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: np.savez(file, features=np.array([Poison()], dtype=object)),
        lambda file: file.write_bytes(pickle.dumps(Poison())),
        lambda file: file.write_bytes(file.read_bytes()[:-20]),
        lambda file: np.savez(file, features=np.float32(1)),
    ],
)
def test_a_file_that_is_no_array_of_floats_is_one_line(tmp_path, capsys, spoil):
    write_npz(tmp_path / "a", 4, {"x": 2, "y": 2})
    write_npz(tmp_path / "b", 4, {"x": 2, "y": 2})
    spoil(tmp_path / "b" / "y.npz")
    assert run("--npz-2d", tmp_path / "a", "--npz-3d", tmp_path / "b", "--output", tmp_path / "store") == 2
    output, error = capsys.readouterr()
    assert "y.npz is not in the layout of VALUE's features" in error and "Traceback" not in error
    assert "executed" not in output and not (tmp_path / "store").exists()


@pytest.mark.parametrize("kept", [0, 100, 4096, 8192, 12000])
def test_a_database_that_is_not_whole_is_one_line(tmp_path, capsys, kept):
    for name, command in (("subs.db", import_text), ("video/clip-vit_slowfast_1.5", import_database)):
        (cut := tmp_path / name).mkdir(parents=True)
        (cut / "data.mdb").write_bytes((DATABASES / name / "data.mdb").read_bytes()[:kept])
        assert command(cut, tmp_path / "output") == 2
        assert "data.mdb is not in the layout of LMDB" in capsys.readouterr().err
        assert not (tmp_path / "output").exists()


def import_database(folder, output) -> int:
    return run("--value-lmdb", folder, "--output", output)


def test_without_the_extra_the_error_names_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert import_database(DATABASES / "video" / "clip-vit_slowfast_1.5", tmp_path / "store") == 2
    assert 'pip install "hf_videolang[value]"' in capsys.readouterr().err


# ---- texts ----


def import_text(folder, output) -> int:
    return main(["data", "import-value-text", "--text-db", str(folder), "--output", str(output)])


def lines(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_golden_subtitles_are_those_of_the_annotation(tmp_path, capsys):
    assert import_text(DATABASES / "subs.db", tmp_path / "subtitles.jsonl") == 0
    assert "3 records" in capsys.readouterr().out
    assert read_subtitle_lines(tmp_path / "subtitles.jsonl") == read_subtitle_lines(CASE.path / "subtitles.jsonl")


def test_golden_captions_and_clips_are_those_of_the_annotation(tmp_path):
    for name in ("cap", "clip"):
        assert import_text(DATABASES / "tvc" / f"{name}.db", tmp_path / f"{name}.jsonl") == 0
    annotated = lines(CASE.path / "captions.jsonl")
    for clip in lines(tmp_path / "clip.jsonl"):
        (expected,) = [one for one in annotated if str(one["clip_id"]) == clip["clip_id"]]
        assert (clip["vid_name"], clip["ts"]) == (expected["vid_name"], expected["ts"])
        assert clip["descs"] == [{name: one[name] for name in ("desc", "desc_id")} for one in expected["descs"]]
    descriptions = [one for clip in annotated for one in clip["descs"]]
    captions = lines(tmp_path / "cap.jsonl")
    assert [{name: one[name] for name in expected} for one, expected in zip(captions, descriptions)] == descriptions
    assert all("input_ids" not in caption for caption in captions)


def test_queries_get_their_video(tmp_path, capsys):
    database = write_database(
        tmp_path / "tvr_val.db", {"7": lz4.frame.compress(msgpack.packb({"desc": "a man sits", "input_ids": [5]}))}
    )
    (database / "query2video.json").write_text('{"7": "talk_01"}')
    assert import_text(database, tmp_path / "queries.jsonl") == 0
    assert lines(tmp_path / "queries.jsonl") == [{"vid_name": "talk_01", "desc": "a man sits"}]
    write_database(tmp_path / "wrong.db", {"7": pickle.dumps(Poison())})
    assert import_text(tmp_path / "wrong.db", tmp_path / "wrong.jsonl") == 2
    output, error = capsys.readouterr()
    assert "wrong.db/7 is not in the layout of VALUE's texts" in error and "executed" not in output
    assert not (tmp_path / "wrong.jsonl").exists()
