"""`hf-videolang evaluate` with a pair scorer: alone, and on what a two-tower model finds."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file

from hf_videolang.data.load_dataset import load_dataset
from hf_videolang.data.stores.part_store import PartStore
from tests.commands.test_evaluate import evaluate
from tests.common.questions import save_model
from tests.training.tiny_run import kill, run_ranks, start_ranks


@pytest.mark.usefixtures("columns_are_taken_whole")
def test_the_table_has_a_column_for_reranked_scores(tiny_run, tiny_pairs, tmp_path, capsys):
    what = ("--dataset", tiny_run / "videos", "--num-workers", 0)
    both = ("--model", tiny_run / "model", "--rerank", tiny_pairs)
    assert evaluate(*both, "--rerank-top", 2, *what, "--output-dir", tmp_path / "two") == 0
    printed = capsys.readouterr()
    assert "DSL  reranked (top 2)" in printed.out and "5 videos" in printed.out
    assert "pairs of 6 texts and 5 videos (10 clips): " in printed.err and " FLOPs" in printed.err
    results = json.loads((tmp_path / "two" / "results.json").read_text())
    scored = load_file(tmp_path / "two" / "similarity.safetensors")["pair_scores"]
    assert results["settings"]["pairs read"] == f"{int((~scored.isnan()).sum())} of 50"
    assert "(the best 2 of each query; clips 2, " in results["settings"]["reranked by"]
    # A literal count: the video of a text is first if it is the better one of the best two.
    saved = load_file(tmp_path / "two" / "similarity.safetensors")
    best = saved["similarity"].argsort(dim=1, descending=True, stable=True)[:, :2]
    first = best.gather(1, scored.gather(1, best).argmax(1, keepdim=True))[:, 0]
    expected = (first == saved["labels"]).float().mean().item()
    assert results["scores"]["reranked (top 2)"]["text_to_video"]["R1"] == pytest.approx(expected)

    assert evaluate("--similarity", tmp_path / "two" / "similarity.safetensors") == 0
    assert results["line"] in capsys.readouterr().out  # the saved matrix has all that the column needs

    assert evaluate(*both, "--rerank-top", 100, *what, "--output-dir", tmp_path / "all") == 0
    assert evaluate("--model", tiny_pairs, *what, "--output-dir", tmp_path / "alone") == 0
    assert "log-odds of pairs, so without DSL" in capsys.readouterr().out
    everything, alone = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("all", "alone"))
    assert everything["scores"]["reranked (top 100)"] == alone["scores"]["raw"] and "DSL" not in alone["scores"]


def test_a_run_of_two_processes_that_is_killed_while_it_reranks_goes_on_to_the_same_bits(
    tiny_run, tiny_pairs, tmp_path, monkeypatch
):
    what = ["--model", tiny_run / "model", "--rerank", tiny_pairs, "--rerank-top", 3, "--dataset", tiny_run / "videos"]
    what += ["--split", "train", "--batch-size", 1, "--num-workers", 0, "--cpu"]
    assert evaluate(*what, "--output-dir", tmp_path / "unbroken") == 0
    out = tmp_path / "out"
    processes = start_ranks("hf_videolang.cli", "evaluate", *what, "--output-dir", out)
    deadline = time.monotonic() + 120
    while len(list(out.glob("pair_scores/[!.]*.parquet"))) < 4 and time.monotonic() < deadline:
        assert processes[0].poll() is None, processes[0].communicate()[0]
        time.sleep(0.005)
    for process in processes:
        kill(process)
    there = {path.stem for path in out.glob("pair_scores/[!.]*.parquet")}
    assert 4 <= len(there) < 22 and not (out / "results.json").exists()

    written, write = [], PartStore.write
    monkeypatch.setattr(PartStore, "write", lambda *args: written.append(args[1]) or write(*args))
    assert evaluate(*what, "--output-dir", out) == 0
    assert len(written) == 22 - len(there) and not there & set(written)
    one, two = (load_file(folder / "similarity.safetensors") for folder in (tmp_path / "unbroken", out))
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor.nan_to_num(), two[name].nan_to_num()) for name, tensor in one.items())
    assert (out / "results.json").read_bytes() == (tmp_path / "unbroken" / "results.json").read_bytes()


def test_two_processes_score_every_pair_once(tiny_run, tiny_pairs, tmp_path):
    """With 5 videos in batches of 2, the second process repeats some."""
    what = ["--model", tiny_pairs, "--dataset", tiny_run / "videos", "--num-workers", 0, "--cpu", "--batch-size"]
    run_ranks("hf_videolang.cli", "evaluate", *what, 2, "--output-dir", tmp_path / "two")
    assert evaluate(*what, 5, "--output-dir", tmp_path / "one") == 0
    one, two = (load_file(tmp_path / name / "similarity.safetensors")["similarity"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)


def test_broken_videos_are_left_out(tiny_run, tiny_pairs, tmp_path):
    (tmp_path / "videos").mkdir()
    for file in (tiny_run / "videos" / "test").iterdir():
        (tmp_path / "videos" / file.name).write_bytes(file.read_bytes())
    what = ("--dataset", tmp_path / "videos", "--split", "train+validation", "--num-workers", 0)
    what += ("--batch-size", 2, "--on-broken-video", "skip")
    assert evaluate("--model", tiny_pairs, *what, "--output-dir", tmp_path / "whole") == 0
    (tmp_path / "videos" / "test0002.mp4").write_bytes(b"no video")
    assert evaluate("--model", tiny_pairs, *what, "--output-dir", tmp_path / "one") == 0
    two = ("--model", tiny_run / "model", "--rerank", tiny_pairs, "--rerank-top", 9)
    assert evaluate(*two, *what, "--output-dir", tmp_path / "two") == 0
    whole, one, reranked = (load_file(tmp_path / name / "similarity.safetensors") for name in ("whole", "one", "two"))
    names = load_dataset("videofolder", tmp_path / "videos", "train+validation")[0]["video_id"]
    kept = [row for row, name in enumerate(names) if name != "test0002"]
    texts = torch.isin(whole["labels"], torch.tensor(kept))
    torch.testing.assert_close(one["similarity"], whole["similarity"][texts][:, kept], atol=1e-5, rtol=0)
    torch.testing.assert_close(reranked["pair_scores"], one["similarity"], atol=1e-5, rtol=0)


def test_models_in_the_wrong_place_are_refused(tiny_run, tiny_pairs, tmp_path, capsys):
    data = ("--dataset", tiny_run / "videos")
    assert evaluate("--model", tiny_run / "model", "--rerank", tiny_run / "model", *data) == 2
    assert "expected a pair scorer, a model that embeds" in capsys.readouterr().err
    assert evaluate("--model", save_model(tmp_path / "answers"), *data) == 2
    assert "does not compare texts with videos; a ClipBertForVideoTextRetrieval does." in capsys.readouterr().err
    assert evaluate("--model", tiny_pairs, "--querybank", "train", *data) == 2
    assert "a pair scorer has none; leave the querybank out" in capsys.readouterr().err
