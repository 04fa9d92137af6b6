"""Features of others: their values, their norms, what they claim; nothing is written if one file is wrong."""

import pickle

import numpy as np
import pytest

from hf_videolang.cli import main
from hf_videolang.data.stores.feature_store import FeatureStore


@pytest.fixture
def folder(tmp_path):
    """Two videos of unit rows."""
    folder, generator = tmp_path / "npy", np.random.default_rng(0)
    (folder / "films").mkdir(parents=True)
    for name, seconds in (("kitchen", 9), ("films/street", 1)):
        rows = generator.normal(size=(seconds, 32)).astype(np.float32)
        np.save(folder / f"{name}.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return folder


def run(folder, store, *words) -> int:
    return main(["data", "import-features", "--from", str(folder), "--output", str(store), *words])


def test_values_and_provenance(folder, tmp_path, capsys):
    said = ("--model", "S3D", "--frames", "30 a second", "--rows", "unit")
    for _ in range(2):  # the second run finds its parts
        assert run(folder, tmp_path / "store", *said) == 0
    assert "2 videos with 10 rows of 32 numbers, norms from 1 to 1" in capsys.readouterr().out
    store = FeatureStore(tmp_path / "store")
    assert set(store.video_ids) == {"kitchen", "films/street"}
    np.testing.assert_allclose(store.features("kitchen"), np.load(folder / "kitchen.npy"), atol=1e-3)
    assert store.description == "S3D, frames 30 a second, unit rows, 1 row a second"
    assert store.rows("kitchen", 2.5, 4.0).shape == (2, 32)


def test_what_is_not_said_is_unknown(folder, tmp_path, capsys):
    np.save(folder / "kitchen.npy", 7 * np.load(folder / "kitchen.npy"))
    (folder / "films" / "street.npy").unlink()
    assert run(folder, tmp_path / "store", "--seconds-per-feature", "2") == 0
    assert "unknown model, frames unknown, raw rows, 0.5 rows a second" in capsys.readouterr().out


class Poison:
    def __reduce__(self):
        return print, ("executed",)


def write_meta(file, names):
    file.with_name("train_meta.pkl").write_bytes(pickle.dumps({0: names}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: np.save(file, np.array([Poison()], dtype=object), allow_pickle=True), "Array can't be memory-m"),
        (lambda file: file.write_bytes(file.read_bytes()[:-10]), "mmap length is greater than file size"),
        (lambda file: file.write_bytes(b""), "EOF"),
        (lambda file: np.save(file, np.zeros(32, np.float32)), "it is float32 of shape (32,)"),
        (lambda file: np.save(file, np.full((2, 32), np.nan)), "infinite, no number, or too large for float16"),
        (lambda file: np.save(file, np.full((2, 32), 1e6)), "infinite, no number, or too large for float16"),
        (lambda file: np.save(file, np.eye(2, 16)), "kitchen.npy has unit rows of 16 numbers"),
        (lambda file: np.save(file, 2 * np.eye(2, 32)), "kitchen.npy has raw rows of 32 numbers"),
        (lambda file: write_meta(file, Poison()), "which could run code"),
        (lambda file: write_meta(file, [7]), "it is {0: [7]}"),
    ],
)
def test_one_wrong_file_is_one_line_and_nothing_is_written(folder, tmp_path, capsys, spoil, message):
    spoil(folder / "kitchen.npy")
    assert run(folder, tmp_path / "store") == 2
    output, error = capsys.readouterr()
    assert message in error and "executed" not in output and "Traceback" not in error
    assert not (tmp_path / "store").exists()


def test_rows_that_are_not_what_they_are_said_to_be(folder, tmp_path, capsys):
    assert run(folder, tmp_path / "store", "--rows", "raw") == 2
    assert "said to be raw, but their norms run from 1 to 1" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", tmp_path / "store") == 2
    assert "there are no features in" in capsys.readouterr().err


def test_shards_that_do_not_belong_together(tmp_path, capsys):
    (tmp_path / "train_meta.pkl").write_bytes(pickle.dumps({0: ["a", "b"]}))
    np.save(tmp_path / "train_0_data.npy", np.eye(3, 4, dtype=np.float16))
    np.save(tmp_path / "train_0_starts.npy", np.array([0, 3]))
    assert run(tmp_path, tmp_path / "store") == 2
    assert "has 3 rows, its starts name 1 videos up to row 3, and" in capsys.readouterr().err
    np.save(tmp_path / "train_0_starts.npy", np.array([0, 1, 3]))
    assert run(tmp_path, tmp_path / "store") == 0
    assert FeatureStore(tmp_path / "store").features("b").tolist() == np.eye(3, 4)[1:].tolist()
