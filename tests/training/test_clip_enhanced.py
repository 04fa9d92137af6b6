"""CLIP-Enhanced is trained from its start folder, killed, resumed and evaluated by the documented commands."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from hf_videolang.cli import main
from hf_videolang.conversion.clip_enhanced import init_clip_enhanced
from hf_videolang.data.load_dataset import find_dataset
from hf_videolang.metrics import captions as caption_metrics
from hf_videolang.training.run_captioning import main as run_captioning
from hf_videolang.training.run_moment_retrieval import main as run
from tests.common.captions import write_captions
from tests.common.clip_enhanced import write_hub_folders
from tests.common.forks import Fork
from tests.common.moments import write_moments
from tests.common.tiny.hero import FEATURES
from tests.training.tiny_run import kill, start, wait_for_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of moments, its features, and the model from which training starts."""
    folder = write_moments(tmp_path_factory.mktemp("clip_enhanced"))
    hub = write_hub_folders(folder / "hub")
    part = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu"}
    layers = {"f_config": 2, "c_config": 1, "q_config": 0, "d_config": 1}
    sizes = {name: {**part, "num_hidden_layers": count} for name, count in layers.items()}
    sizes["f_config"]["max_position_embeddings"] = 120
    (folder / "layers.json").write_text(json.dumps(sizes))
    options = {"features": "none", "video_feature_size": str(FEATURES), "config": folder / "layers.json"}
    init_clip_enhanced(hub / "clip", hub / "roberta", folder / "start", **options)
    return folder


def words(folder, output, *more: str, **changed) -> list[str]:
    losses = {"span_loss_weight": 1.0, "span_drop_probability": 0.2, "margin": 0.2}
    options = {
        "model": folder / "start",
        "data_dir": folder / "data",
        "features": folder / "features",
        "output_dir": output,
        "select_on": "none",
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "losses": json.dumps(losses),
        "max_steps": 12,
        "save_strategy": "steps",
        "save_steps": 3,
        "report_to": "none",
        "test": "false",
        **changed,
    }
    given = {name: str(value) for name, value in options.items() if value is not None}
    return [*(word for name, value in given.items() for word in (f"--{name}", value)), *more]


def test_moments_killed_resumed_and_evaluated(folder, tmp_path, capsys):
    process = Fork("hf_videolang.training.run_moment_retrieval", *words(folder, tmp_path / "killed"))
    wait_for_checkpoint(tmp_path / "killed", process)
    kill(process)
    assert run(words(folder, tmp_path / "killed", "--resume_from_checkpoint", "true")) == 0
    assert run(words(folder, tmp_path / "whole")) == 0
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    first = load_file(folder / "start" / "model.safetensors")
    trained = {name for name, value in expected.items() if not torch.equal(value, first[name])}
    assert any("text_model" in name for name in trained)  # CLIP learns, too
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "released neither weights nor code" in card and "Their report fixes" in card
    capsys.readouterr()
    given = ["--model", tmp_path / "whole", "--dataset", folder / "data", "--features", folder / "features"]
    assert main(["evaluate", *map(str, given), "--output-dir", str(tmp_path / "results")]) == 0
    assert "VCMR IoU0.7" in capsys.readouterr().out


def test_captions_killed_resumed_and_evaluated(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)  # METEOR's Java takes seconds to start
    data = write_captions(tmp_path / "captions")
    options = {"data_dir": data / "data", "features": data / "features", "learning_rate": 3e-3, "max_steps": 60}
    options |= {"per_device_train_batch_size": 9, "label_smoothing": 0.05, "save_steps": 10, "losses": None}
    process = start("hf_videolang.training.run_captioning", *words(folder, tmp_path / "killed", **options))
    wait_for_checkpoint(tmp_path / "killed", process)
    kill(process)
    assert run_captioning(words(folder, tmp_path / "killed", **options, resume_from_checkpoint="true")) == 0
    assert run_captioning(words(folder, tmp_path / "whole", **options)) == 0
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    capsys.readouterr()
    given = ["--model", tmp_path / "whole", "--dataset", data / "data", "--features", data / "features"]
    results = tmp_path / "results"
    more = ["--split", "train", "--output-dir", results]
    assert main(["evaluate", *map(str, [*given, *more])]) == 0
    assert "CIDEr" in capsys.readouterr().out
    records, _ = find_dataset(str(data / "data")).load("train", need_videos=False)
    references = [segment["captions"] for some in records["segments"] for segment in some]
    texts = [json.loads(line)["descs"][0]["desc"] for line in (results / "captions.jsonl").read_text().splitlines()]
    shuffled = random.Random(0).sample(texts, len(texts))
    own, by_chance = (caption_metrics.caption_metrics(some, references)["CIDEr"] for some in (texts, shuffled))
    assert own >= 5 * by_chance, (own, by_chance, texts)


@pytest.mark.parametrize(
    "option", [("--freeze", "text_model"), ("--lr_multipliers", '{"hero.text_model.": 0, "": 1}')]
)
def test_clip_can_be_frozen_or_have_a_rate_of_its_own(folder, tmp_path, option):
    assert run(words(folder, tmp_path, "--max_steps", "1", "--save_strategy", "no", *option)) == 0
    first, trained = (load_file(path / "model.safetensors") for path in (folder / "start", tmp_path))
    changed = {name for name, value in trained.items() if not torch.equal(value, first[name])}
    assert changed and not any("text_model" in name for name in changed)
