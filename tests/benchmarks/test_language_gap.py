"""benchmarks/language_gap: NMI against all clusterings, texts of every kind of source, and the real command."""

import json
import runpy
import sys
from itertools import product
from math import log

import numpy as np
import pytest
from pyarrow import table
from pyarrow.parquet import write_table

from hf_videolang.data.stores.caption_store import CaptionStore
from tests.common.tiny.clip_vip import tiny_model, tiny_processor
from tests.parity.cases import REPOSITORY

FOLDER = REPOSITORY / "benchmarks" / "language_gap"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def entropy(labels) -> float:
    counts = [list(labels).count(label) for label in set(labels)]
    return -sum(count / len(labels) * log(count / len(labels)) for count in counts)


@pytest.mark.parametrize("seed", range(2))
def test_nmi_of_the_best_of_all_clusterings(seed):
    """K-means finds the best of the 511 ways to split ten texts in two; the NMI follows from entropies."""
    from nmi import language_gap

    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(5, 3)), generator.normal([1, 0, 0], size=(5, 3))
    points = np.concatenate([first, second])
    splits = [np.array((0, *split)) for split in product((0, 1), repeat=9) if any(split)]

    def squared_distances(split) -> float:
        groups = [points[split == number] for number in (0, 1)]
        return sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)

    best = min(splits, key=squared_distances).tolist()
    sources = [0] * 5 + [1] * 5
    information = entropy(sources) + entropy(best) - entropy(list(zip(sources, best)))
    expected = 2 * information / (entropy(sources) + entropy(best))
    assert language_gap(first, second, seed=seed, num_starts=50) == pytest.approx(expected)


def test_texts_of_every_kind_of_source(tmp_path):
    from texts import read_texts

    (tmp_path / "a.txt").write_text("one\n\n  two \n")
    assert read_texts(f"{tmp_path}/a.txt", 9) == ["one", "two"]
    store = CaptionStore(tmp_path / "store", {})
    store.write_captions("a-00000000", ["x", "y"], ["one", None], [None, "broken"])
    assert read_texts(str(tmp_path / "store"), 9) == ["one"]
    lines = ["key,vid_key,video_id,sentence", "ret0,msr0,video9770,a person is connecting something"]
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text("\n".join(lines))
    assert read_texts(f"msrvtt-1ka:{tmp_path}:test", 9) == ["a person is connecting something"]
    for shard in range(3):
        rows = range(10 * shard, 10 * shard + 10)
        columns = {"video": [{"bytes": b"x", "path": f"{row}.mp4"} for row in rows]}
        columns["subtitle"] = [f"text {row}" if row != 29 else None for row in rows]
        write_table(table(columns), tmp_path / f"train-{shard}.parquet")
    assert read_texts(f"{tmp_path}/*.parquet:subtitle", 30) == [f"text {row}" for row in range(29)]
    assert read_texts(f"{tmp_path}/*.parquet:subtitle", 4) == ["text 0", "text 10", "text 19"]


def test_the_command_compares_each_pair(tmp_path, monkeypatch, capsys):
    """Texts of the same letters lie closer together than texts of other letters."""
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_processor(60).save_pretrained(tmp_path / "model")
    generator = np.random.default_rng(0)
    for name, letters in (("one", "abcdef"), ("same", "abcdef"), ("other", "uvwxyz")):
        words = ["".join(generator.choice(list(letters), 5)) for _ in range(40)]
        (tmp_path / f"{name}.txt").write_text("\n".join(words))
    command = ["language_gap.py", "--model", tmp_path / "model", "--samples=30", "--draws=3"]
    first, second = [f"one={tmp_path}/one.txt"], [f"{name}={tmp_path}/{name}.txt" for name in ("same", "other")]
    command += ["--first", *first, "--second", *second, "--output", tmp_path / "gap.json"]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    runpy.run_path(str(FOLDER / "language_gap.py"), run_name="__main__")
    output = capsys.readouterr().out
    same, other = json.loads((tmp_path / "gap.json").read_text())["pairs"]
    assert (other["first"], other["second"], len(other["nmi"])) == ("one", "other", 3)
    assert other["mean"] > 0.3 > 0.1 > same["mean"]
    assert f"one - other: NMI {other['mean']:.3f} ± {other['std']:.3f}" in output
