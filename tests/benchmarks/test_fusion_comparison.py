"""The experiment of docs/the_papers_argument.md: its twins, its start, and the real command at a tiny setting."""

import json
import sys

import pytest
import torch

from tests.parity.cases import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
SETTING = {"seeds": 1, "order_steps": 2, "retrieval_steps": 2, "image_steps": 2, "batch_size": 4}
SETTING |= {"num_train": 24, "num_test": 4, "num_pictures": 216}
TINY = [f"--{name}={value}" for name, value in SETTING.items()]


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import fusion_comparison

    return fusion_comparison


@pytest.fixture
def clips(experiment):
    """Two clips of noise: every frame is another."""
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return experiment.Clips(pixels, ["a red circle moves left then up", "a blue square moves right then down"])


def test_a_twin_has_the_same_frames_in_another_order(experiment, clips):
    twins = experiment.twins(clips)
    assert twins.captions == ["a red circle moves up then left", "a blue square moves down then right"]
    for clip, twin in zip(clips.pixels, twins.pixels, strict=True):
        assert torch.equal(twin, clip[[2, 3, 0, 1]])
    assert torch.equal(experiment.twins(twins).pixels, clips.pixels)


def test_only_who_tells_frames_apart_can_tell_twins(experiment, clips, monkeypatch):
    timeless = {"frame_fusion": "proxy", "use_temporal_embedding": False}
    monkeypatch.setitem(experiment.FUSIONS, "proxies without time", timeless)
    for fusion in experiment.FUSIONS:
        torch.manual_seed(0)
        model = experiment.make_model(fusion)
        experiment.draw_time_table(model, clips.pixels)
        scores = experiment.order_scores(model, clips)
        if fusion in ("mean pooling", "proxies without time"):
            assert scores["caption_to_clip"] == scores["clip_to_caption"] == 0.5
            assert scores["largest_difference"] < 1e-6
        else:
            assert scores["largest_difference"] > 1e-4


def test_a_tie_counts_half(experiment):
    assert experiment.share_won(torch.tensor([0.2, -0.1, 1e-6, -1e-6])) == 0.5
    assert experiment.share_won(torch.tensor([0.2, 0.1, -0.1, 1e-6])) == 0.625


def test_places_of_a_motion(experiment):
    places = experiment.places
    assert places("a red circle moves left then up") == places("a red circle moves down then right")
    assert places("a red circle moves left then up") != places("a red circle moves up then left")
    assert places("a red circle moves left then right") == places("a red circle moves right then left")


def test_all_fusions_start_from_the_image_text_model(experiment):
    image_model = experiment.make_model("mean pooling")
    weights = image_model.state_dict()
    for fusion in experiment.FUSIONS:
        started = experiment.start_from(image_model, fusion).state_dict()
        assert all(torch.equal(started[name], value) for name, value in weights.items())
        if fusion == "4 proxies":
            new = "vision_model.embeddings."
            assert started[new + "temporal_embedding"].abs().max() == 0
            assert started[new + "added_cls"].std() == pytest.approx(1, abs=0.2)
        if fusion == "sequence transformer":
            for name in ("layers.1.mlp.fc1.weight", "layers.0.self_attn.q_proj.bias"):
                assert torch.equal(started[f"sequence_transformer.{name}"], weights[f"text_model.encoder.{name}"])


def test_command_continues_where_it_was_stopped(experiment, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["fusion_comparison.py", *TINY, "--output", str(tmp_path)])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # the other tests' business
    experiment.main()
    capsys.readouterr()
    path = tmp_path / "fusion_comparison.json"
    report = json.loads(path.read_text())
    assert len(report["runs"]) == 11 * 3  # two learning rates on the validation seed, the better one on the other
    assert "| mean pooling | 50.0 ± 0.0 | 50.0 ± 0.0 |" in path.with_suffix(".md").read_text()
    assert path.with_suffix(".png").stat().st_size > 10_000

    path.write_text(json.dumps(report | {"runs": report["runs"][:-2]}))
    experiment.main()
    assert capsys.readouterr().out.count(" lr ") == 2
    again = json.loads(path.read_text())["runs"]
    assert [(run["seed"], run["task"], run["fusion"]) for run in again] == [
        (run["seed"], run["task"], run["fusion"]) for run in report["runs"]
    ]
    for score in ("R1", "MeanR"):
        assert again[-1][score] == pytest.approx(report["runs"][-1][score], rel=0.05)

    path.write_text(json.dumps(report | {"settings": report["settings"] | {"order_steps": 3}}))
    with pytest.raises(SystemExit, match="other settings"):
        experiment.main()
