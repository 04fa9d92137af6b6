"""Moments of a corpus: the evaluator against a search of all pairs, and the command that prints its table."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from hf_videolang.cli import main
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.data.stores.feature_store import FeatureStore
from hf_videolang.evaluation.moment_retrieval import MomentRetrievalEvaluator
from hf_videolang.hub.loading import load_model_and_processor
from tests.common.moments import write_features, write_moments


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_moments(tmp_path_factory.mktemp("moments"))


@torch.no_grad()
def all_pairs(model, processor, records, features, batch_size):
    """Every span of every video for each query, one after the other: (score, video, start, end), best first."""
    names = sorted(records["video_id"])
    subtitles = dict(zip(records["video_id"], records["subtitles"]))
    encoded = []
    for first in range(0, len(names), batch_size):
        some = names[first : first + batch_size]
        inputs = processor(
            video_features=[features.features(name) for name in some],
            subtitles=[subtitles[name] for name in some],
            truncation=True,
        )
        encoded += [(model, one, inputs) for one in model.get_video_features(**inputs).frame_embeds]
    result = {}
    for moments in records["moments"]:
        for moment in moments:
            query = model.get_text_features(**processor(text=[moment["text"]])).text_embeds
            spans = []
            for video, (_, frames, _) in enumerate(encoded):
                mask = torch.ones(1, len(frames))
                weight = float((20 * model.video_scores(query, frames[None], mask)).exp())
                logits = model.span_logits(model.frame_similarity(query, frames[None])[0], mask)
                starts, ends = (value.softmax(-1)[0].tolist() for value in logits)
                spans += [
                    (weight * starts[a] * ends[b], video, 1.5 * a, 1.5 * (b + 1))
                    for a in range(len(frames))
                    for b in range(a + 2, min(a + 16, len(frames)))
                ]
            result[moment["text"]] = sorted(spans, reverse=True)[:100]
    return result


@pytest.mark.parametrize("batch_size", [2, 50])
def test_the_evaluator_finds_what_a_search_of_all_pairs_finds(folder, batch_size):
    model, processor = load_model_and_processor(str(folder / "model"))
    records, _ = find_dataset(str(folder / "data")).load("test", need_videos=False)
    features = FeatureStore(folder / "features")
    evaluator = MomentRetrievalEvaluator(processor, features, batch_size=batch_size)
    scores = evaluator(model, records, Accelerator(cpu=True))
    expected = all_pairs(model, processor, records, features, batch_size)
    found = {one["desc"]: one["predictions"] for one in evaluator.predictions["VCMR"]}
    assert found.keys() == expected.keys()
    for text, spans in expected.items():
        assert [row[:3] for row in found[text]] == [[video, start, end] for _, video, start, end in spans]
        torch.testing.assert_close(torch.tensor([r[3] for r in found[text]]), torch.tensor([s[0] for s in spans]))
    assert scores["raw"].keys() == {"VCMR_IoU0.5", "VCMR_IoU0.7", "SVMR_IoU0.5", "SVMR_IoU0.7", "VR"}
    assert evaluator.settings["encoded together"] == f"{batch_size} videos"
    flat = {f"{group}_{metric}" for group, metrics in scores["raw"].items() for metric in metrics}
    assert flat == set(evaluator.metric_names())


def test_evaluate_prints_a_table_and_saves_predictions(folder, tmp_path, capsys):
    command = ["evaluate", "--model", str(folder / "model"), "--dataset", str(folder / "data"), "--cpu"]
    command += ["--features", str(folder / "features"), "--num-workers", "0", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "3 videos, 9 queries" in printed and "encoded together: 50 videos" in printed and "AveR" in printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["scores"]["raw"]["VR"]["R100"] == 1.0 and results["queries"] == 9
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert set(saved) == {"video2idx", "VCMR", "SVMR", "VR"} and len(saved["VCMR"]) == 9
    assert not (tmp_path / "out" / "encodings").exists()
    assert main([*command[:-2], "--legacy-index", "--nms", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "index: with the fault of the original" in printed and "suppressed above: IoU 0.5" in printed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows_per_second": 1.0}, "1 row a second, but the model reads 0.666667"),
        ({"width": 8}, "does not fit the model: video_features is (1, 1, 8)"),
        ({}, "has no features of 3 of 3 videos"),
        (None, "give their folder as --features"),
    ],
)
def test_features_of_another_kind_are_refused(folder, tmp_path, capsys, changed, message):
    command = ["evaluate", "--model", str(folder / "model"), "--dataset", str(folder / "data"), "--cpu"]
    if changed is not None:
        width, number = changed.get("width", 16), 12 if changed else 0
        videos = {f"video{row:02}": np.zeros((12, width)) for row in range(number)} or {"other": np.zeros((2, 16))}
        write_features(tmp_path / "other", videos, **changed)
        command += ["--features", str(tmp_path / "other")]
    assert main(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("DATA", "nowhere", "data (videofolder) has no split nowhere; it has test"),
        ("tvr", "test", "No dataset 'tvr' with data_dir None: expected a benchmark (msrvtt-1ka,"),
    ],
)
def test_an_unknown_task_or_split_is_named(folder, capsys, name, split, message):
    dataset = name.replace("DATA", str(folder / "data"))
    command = ["evaluate", "--model", folder / "model", "--dataset", dataset, "--features", folder / "features"]
    assert main([str(word) for word in (*command, "--split", split, "--cpu")]) == 2
    assert message in capsys.readouterr().err
