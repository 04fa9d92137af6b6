"""CLIP-Enhanced learns both tasks of VATEX by its recipes: killed, resumed and evaluated by the commands."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hf_videolang.cli import main
from hf_videolang.conversion.clip_enhanced import init_clip_enhanced
from hf_videolang.metrics import captions as caption_metrics
from hf_videolang.training.run_captioning import main as run_captioning
from hf_videolang.training.run_moment_retrieval import main as run_retrieval
from tests.common.clip_enhanced import write_hub_folders
from tests.common.forks import OFFLINE, Fork
from tests.common.moments import write_features
from tests.common.tiny.hero import FEATURES
from tests.training.tiny_run import kill, start, wait_for_checkpoint

SCENES = "abcdefghijkl"
SPLITS = {"train": 2, "val": 1, "test_public": 1}  # clips of each scene


def sentences(scene: str) -> list[str]:
    return [f"w1 {scene} w2 {scene}", f"w3 {scene} w2 {scene}"]


def write_vatex(folder: Path) -> None:
    """VALUE's files of VATEX (hero §7.1, A8), with two sentences a clip, and features of the clips."""
    draw = np.random.default_rng(0)
    seen = {scene: 2 * draw.normal(size=FEATURES) for scene in SCENES}
    lines, features = {}, {}
    for split, copies in SPLITS.items():
        for number, scene in enumerate(SCENES * copies):
            clip = {"vid_name": f"{split[:5]:->8}{number:03}_000010_000020", "duration": 10.0}
            features[clip["vid_name"]] = seen[scene] + 0.1 * draw.normal(size=(6, FEATURES))
            told = [{"desc": text, "desc_id": 2 * number + place} for place, text in enumerate(sentences(scene))]
            lines.setdefault(f"vatex_en_r_{split}_release", []).extend({**clip, **one} for one in told)
            lines.setdefault(f"vatex_en_c_{split}_release", []).append({**clip, "clip_id": number, "descs": told})
            spoken = {"vid_name": clip["vid_name"], "sub": [{"text": f" {scene}", "start": 0.9, "end": 4.0}]}
            lines.setdefault("vatex_subtitles", []).append(spoken)
    (folder / "vatex").mkdir()
    for name, rows in lines.items():
        (folder / "vatex" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_features(folder / "features", features)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """VATEX, its features, and the model from which training starts."""
    folder = tmp_path_factory.mktemp("clip_enhanced")
    write_vatex(folder)
    hub = write_hub_folders(folder / "hub")
    part = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu"}
    layers = {"f_config": 2, "c_config": 1, "q_config": 0, "d_config": 1}
    sizes = {name: {**part, "num_hidden_layers": count} for name, count in layers.items()}
    sizes["f_config"]["max_position_embeddings"] = 120
    (folder / "layers.json").write_text(json.dumps(sizes))
    options = {"features": "none", "video_feature_size": str(FEATURES), "config": folder / "layers.json"}
    init_clip_enhanced(hub / "clip", hub / "roberta", folder / "start", **options)
    return folder


def words(folder, recipe, output, **changed) -> list[str]:
    """The recipe of a task, with fewer steps on smaller batches."""
    options = {
        "model": folder / "start",
        "data_dir": folder / "vatex",
        "features": folder / "features",
        "output_dir": output,
        "max_length": 12,  # of its CLIP
        "learning_rate": 3e-3,
        "bf16": "false",
        "dataloader_num_workers": 0,
        "report_to": "none",
        **changed,
    }
    return [f"hero/{recipe}.yaml", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def train_through_a_kill(launch, script: str, run, words_for) -> Path:
    """One run is killed and resumed, another one is not; both end with the same bits. Returns the folder of one."""
    killed, whole = words_for("killed"), words_for("whole")
    outputs = [Path(given[given.index("--output_dir") + 1]) for given in (killed, whole)]
    process = launch(f"hf_videolang.training.{script}", *killed, variables=OFFLINE | {"PATH": ""})  # without Java
    wait_for_checkpoint(outputs[0], process)
    kill(process)
    assert run([*killed, "--resume_from_checkpoint", "true"]) == 0
    assert run(whole) == 0
    found, expected = (load_file(output / "model.safetensors") for output in outputs)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    return outputs[1]


def evaluate(model: Path, folder: Path, dataset: str, results: Path) -> None:
    """The public test, by the command."""
    given = ["--model", model, "--dataset", dataset, "--data-dir", folder / "vatex", "--features", folder / "features"]
    assert main(["evaluate", *map(str, given), "--output-dir", str(results)]) == 0


STEPS = {"max_steps": 20, "warmup_steps": 2, "eval_steps": 10, "save_steps": 10}


def test_retrieval_killed_resumed_and_evaluated(folder, tmp_path, capsys):
    trained = train_through_a_kill(
        Fork,
        "run_moment_retrieval",
        run_retrieval,
        lambda name: words(
            folder, "vatex_en_r_clip_enhanced", tmp_path / name, **STEPS, per_device_train_batch_size=8
        ),
    )
    first, last = (load_file(path / "model.safetensors") for path in (folder / "start", trained))
    changed = {name for name, value in last.items() if not torch.equal(value, first[name])}
    assert any("text_model" in name for name in changed)  # CLIP learns, too
    card = (trained / "README.md").read_text()
    assert "released neither weights nor code" in card and "Their report fixes" in card
    capsys.readouterr()
    evaluate(trained, folder, "vatex-en-r", tmp_path / "results")
    printed = capsys.readouterr().out
    assert "test: 12 of 6000 videos, 24 captions (vatex_en_r_test_public_release.jsonl, vatex_subt" in printed
    assert float(re.search(r"VR R1 +([\d.]+)", printed)[1]) > 50  # by chance 8


def test_captions_killed_resumed_and_evaluated(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)  # METEOR's Java takes seconds to start
    trained = train_through_a_kill(
        start,
        "run_captioning",
        run_captioning,
        lambda name: words(
            folder, "vatex_en_c_clip_enhanced", tmp_path / name, **STEPS, per_device_train_batch_size=16
        ),
    )
    capsys.readouterr()
    evaluate(trained, folder, "vatex-en-c", tmp_path / "results")
    printed = capsys.readouterr().out
    assert "test: 12 of 6000 videos, 24 captions (vatex_en_c_test_public_release.jsonl, vatex_subt" in printed
    lines = [json.loads(line) for line in (tmp_path / "results" / "captions.jsonl").read_text().splitlines()]
    texts, references = [line["descs"][0]["desc"] for line in lines], [sentences(scene) for scene in SCENES]
    shuffled = random.Random(0).sample(texts, len(texts))
    own, by_chance = (caption_metrics.caption_metrics(some, references)["CIDEr"] for some in (texts, shuffled))
    assert own >= 5 * by_chance, (own, by_chance, texts)


@pytest.mark.parametrize(
    "option", [("--freeze", "text_model"), ("--lr_multipliers", '{"hero.text_model.": 0, "": 1}')]
)
def test_clip_can_be_frozen_or_have_a_rate_of_its_own(folder, tmp_path, option):
    once = {"max_steps": 1, "warmup_steps": 0, "save_strategy": "no", "eval_strategy": "no"}
    once |= {"load_best_model_at_end": "false", "per_device_train_batch_size": 8}
    assert run_retrieval([*words(folder, "vatex_en_r_clip_enhanced", tmp_path, **once), *option]) == 0
    first, trained = (load_file(path / "model.safetensors") for path in (folder / "start", tmp_path))
    changed = {name for name, value in trained.items() if not torch.equal(value, first[name])}
    assert changed and not any("text_model" in name for name in changed)
