"""The committed cards of the authors' checkpoints: rendered from their facts, valid, and their snippets run."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from hf_videolang.cli import main
from hf_videolang.data.load_dataset import BENCHMARKS
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.training.recipes import RECIPES
from model_cards.render import render
from tests.common.tiny.clip_vip import tiny_model, tiny_processor
from tests.conversion.clip_vip.random_checkpoints import (
    B16,
    B32,
    random_tensors,
    wrapper_keys,
    write_checkpoint,
    write_tokenizer,
)
from tests.parity.cases import REPOSITORY, SHARED

FOLDER = REPOSITORY / "model_cards"
FACTS = yaml.safe_load((FOLDER / "clip_vip.yaml").read_text())
CARDS = {path.stem: path.read_text() for path in FOLDER.glob("*.md")}
COMMITTED = {name: card for name, card in CARDS.items() if name.startswith("clip-vip-")}
OTHERS = {  # → family
    "clipbert-image-text": "clipbert",
    **dict.fromkeys(("hero-tv-ht100", "hero-tvr", "hero-how2r"), "hero"),
    **dict.fromkeys(("hero-tvqa", "hero-how2qa", "hero-vlep", "hero-violin"), "hero"),
    **dict.fromkeys(("hero-tvc", "hero-yc2c", "hero-vatex-c"), "hero"),
    "s3d-howto100m": "s3d",
    "slowfast-r50-8x8": "slowfast",
    "videoclip-howto100m": "videoclip",
    "vlm-howto100m": "videoclip",
}
LICENCES = {
    "clipbert": "other",
    "hero": "other",
    "s3d": "apache-2.0",
    "slowfast": "apache-2.0",
    "videoclip": "cc-by-nc-4.0",
}
# The Hub's list of tasks has no video retrieval; of these, encoders are feature-extraction.
PIPELINE_TAGS = {
    "video-classification",
    "video-text-to-text",
    "visual-question-answering",
    "feature-extraction",
    "zero-shot-image-classification",
}
SECTIONS = [
    "Provenance",
    "Use",
    "Input and output",
    "Training",
    "Results",
    "Intended use, limitations, bias",
    "Licence",
    "Citation",
]


def test_committed_cards_are_the_rendered_ones(tmp_path):
    cards = {name: card for file in FOLDER.glob("*.yaml") for name, card in render(file).items()}
    assert len(COMMITTED) == 10
    for name, card in cards.items():
        card.save(tmp_path / "card.md")
        rendered = (tmp_path / "card.md").read_text()
        assert CARDS.get(name) == rendered, f"{name}: run python model_cards/render.py"
    assert set(CARDS) == set(cards) == {*COMMITTED, *OTHERS}


@pytest.mark.parametrize("name", OTHERS)
def test_cards_of_other_families(name):
    card = ModelCard(CARDS[name])
    data = card.data.to_dict()
    task = "video-classification" if name.startswith("slowfast") else "video-text-retrieval"
    assert {"hf_videolang", OTHERS[name], task} <= set(data["tags"])
    assert data["license"] == LICENCES[OTHERS[name]]
    assert re.findall(r"^## (.*)$", card.text, re.MULTILINE) == SECTIONS
    assert "{" not in card.text.partition("```bibtex")[0] and "None" not in card.text and "model-index" not in data
    assert f'from_pretrained("org/{name}")' in card.text and f"--output-dir {name}`" in card.text
    assert ("not trained by contrast" in card.text) is name.startswith("vlm")


@pytest.mark.skipif(not SHARED.exists(), reason="the reference specification is not beside this checkout")
def test_reported_numbers_of_videoclip_are_those_of_the_specification():
    specification = (SHARED / "reference" / "videoclip" / "SPEC.md").read_text()
    section = specification.partition("## 8. Published results")[2].partition("\n\n")[0]
    published = re.findall(r"\| (\d[\d. /]*\d|-) \| (\d[\d. /]*\d|-) \|", section)
    reported = re.findall(r"\| (\d[\d. /]*\d|-) \| (\d[\d. /]*\d|-) \|", CARDS["videoclip-howto100m"])
    assert reported == published and len(published) == 6


@pytest.mark.skipif(not SHARED.exists(), reason="the reference specification is not beside this checkout")
def test_reported_numbers_of_hero_are_those_of_the_specification():
    specification = (SHARED / "reference" / "hero" / "SPEC.md").read_text()
    section = specification.partition("## 12. Published results")[2]
    [header] = re.findall(r"^\| \| (TVR .*) \|$", section, re.MULTILINE)
    [row] = re.findall(r"^\| PT \(resnet_slowfast\) ST \| (.*) \|$", section, re.MULTILINE)
    published = dict(zip(header.split(" | "), row.split(" | ")))
    for task in ("TVR", "How2R", "TVQA", "How2QA", "VLEP", "VIOLIN", "TVC", "YC2C", "VATEX-C"):
        assert re.search(rf"\| {task} test \| \w+ \| {published[task]} \|\n", CARDS[f"hero-{task.lower()}"])


@pytest.mark.parametrize("name", sorted(COMMITTED))
def test_metadata_and_sections(name):
    data, text = ModelCard(COMMITTED[name]).data.to_dict(), ModelCard(COMMITTED[name]).text
    assert data["pipeline_tag"] in PIPELINE_TAGS
    assert data["library_name"] == "transformers" and data["language"] == "en"
    assert {"hf_videolang", "clip-vip", "video-text-retrieval", "arxiv:2209.06430"} <= set(data["tags"])
    assert data["license"] == "other" and data["license_name"] and data["license_link"].startswith("https://")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", data["base_model"]) and data["datasets"] and data["metrics"] == ["recall"]
    # Machine-readable results are only for what this package measured.
    assert "model-index" not in data
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    reported = text.partition("### Reported by the authors")[2].partition("### Measured")[0]
    assert "**not reproduced here**" in reported
    for row in reported.strip().splitlines():
        if re.search(r"\d\.\d \|", row):
            assert "confirmed" in row or "from memory" in row, row
    assert "{" not in text.partition("```bibtex")[0] and "None" not in text


@pytest.mark.skipif(not SHARED.exists(), reason="the reference specification is not beside this checkout")
def test_reported_numbers_are_those_of_the_specification():
    specification = (SHARED / "reference" / "clip_vip" / "SPEC.md").read_text()
    section = specification.partition("## 9. Published results")[2]
    tasks = ["msrvtt", "didemo", "lsmdc", "activitynet"]
    found = {}
    for label, *cells in re.findall(r"^\| (B/\d+(?: DSL)?) " + r"\| ([^|]*) " * 4 + r"\|$", section, re.MULTILINE):
        size, _, dsl = label.partition(" ")
        for task, cell in zip(tasks, cells, strict=True):
            numbers, _, mark = cell.strip().partition(" +")
            confirmed = " +" in cell
            evidence = ("confirmed R@1" if mark == "1" else "confirmed") if confirmed else "memory"
            key = task, size.replace("B/", "b"), dsl or "raw"
            found[key] = [*(float(number) for number in numbers.split(" / ")), evidence]
    facts = {
        (task, size, post): row
        for task, fact in FACTS["checkpoints"].items()
        if task != "pretrained"
        for size, results in fact["results"].items()
        for post, row in results.items()
    }
    assert len(found) == 16 and facts == found


@pytest.mark.parametrize("name", sorted(COMMITTED))
def test_recipe_and_protocol_that_a_card_names(name):
    _, _, size, *task = name.split("-")
    [command] = re.findall(r"`(hf-videolang evaluate [^`]*)`", COMMITTED[name])
    dataset = {"msrvtt": "msrvtt-1ka"}.get(task[0], task[0]) if task else "msrvtt-1ka"
    expected = f"hf-videolang evaluate --model {FACTS['organisation']}/{name} --dataset {dataset} --data-dir DIR"
    assert command == expected and dataset in BENCHMARKS
    recipes = re.findall(r"recipe `([\w/]+)\.yaml`", COMMITTED[name])
    assert recipes == [f"clip_vip/{part}_{size}" for part in task]
    for recipe in recipes:
        given = yaml.safe_load((RECIPES / "clip_vip" / "finetuning.yaml").read_text())  # every recipe extends it
        given |= yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())
        assert (given["num_frames"], given["max_length"]) == RELEASED[name] and given["dataset"] == dataset


# Frames and tokens of the released configurations (clip_vip §4).
RELEASED = {
    "clip-vip-b32": (12, 70),
    "clip-vip-b16": (12, 70),
    "clip-vip-b32-msrvtt": (12, 50),
    "clip-vip-b16-msrvtt": (12, 50),
    "clip-vip-b32-didemo": (12, 50),
    "clip-vip-b16-didemo": (12, 70),
    "clip-vip-b32-lsmdc": (12, 50),
    "clip-vip-b16-lsmdc": (12, 50),
    "clip-vip-b32-activitynet": (32, 70),
    "clip-vip-b16-activitynet": (32, 70),
}


def table(card: str) -> list[str]:
    section = card.partition("## Input and output")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("name", sorted(COMMITTED))
def test_the_command_of_a_card_makes_what_the_card_promises(name, tmp_path, monkeypatch):
    """With a checkpoint that has narrow, shallow towers and is otherwise like the released one."""
    [command] = re.findall(r"`hf-videolang (convert [^`]*)`", COMMITTED[name])
    words = shlex.split(command)
    released = B16 if "b16" in name else B32
    size = replace(released, vision_width=64, text_width=64, vision_layers=1, text_layers=1, vocabulary=514)
    frames, tokens = RELEASED[name]
    additional = {"type": "ViP", "temporal_size": 12, "if_use_temporal_embed": 1, "add_cls_num": 3}
    original = {
        "train_num_frms": frames,
        "test_num_frms": frames,
        "max_txt_len": tokens,
        "input_res": [224, 224],
    }
    (tmp_path / "ORIGINAL.json").write_text(json.dumps({**original, "clip_vision_additional_config": additional}))
    monkeypatch.chdir(tmp_path)
    write_checkpoint(random_tensors(wrapper_keys(size)), Path(words[1]))
    write_tokenizer(tmp_path / "tokenizer", size.vocabulary)
    assert main([*words, "--tokenizer", "tokenizer"]) == 0
    written = (tmp_path / name / "README.md").read_text()
    assert table(written) == table(COMMITTED[name]) and len(table(written)) == 8
    assert f"`hf-videolang {command}`" in written


def snippets(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def test_snippets_run_and_agree(tmp_path, monkeypatch, capsys):
    own = {
        name: [code.replace(f"{FACTS['organisation']}/{name}", "FOLDER") for code in snippets(card)]
        for name, card in COMMITTED.items()
    }
    first = next(iter(own.values()))
    assert len(first) == 2 and all(codes == first for codes in own.values())
    assert "import hf_videolang" in first[0] and "hf_videolang" not in first[1]

    tiny_model().save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "kitchen.mp4", noise)
    monkeypatch.chdir(tmp_path)
    with_package, alone = (code.replace("FOLDER", "model") for code in first)
    capsys.readouterr()
    exec(with_package, {})  # noqa: S102  the card's own program
    Path("alone.py").write_text(alone)
    command = [sys.executable, "-I", REPOSITORY / "tests" / "common" / "without.py", "hf_videolang", "alone.py"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for printed in (result.stdout, capsys.readouterr().out):
        numbers = torch.tensor([float(number) for number in re.findall(r"\d\.\d+(?:e-\d+)?", printed)])
        assert numbers.shape == (2,) and torch.isclose(numbers.sum(), torch.tensor(1.0), atol=1e-3)
    assert result.stdout == printed
