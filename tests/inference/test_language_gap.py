"""`hf-videolang language-gap`: table, files, features as of each text alone, refusals."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, CLIPConfig, CLIPModel

from hf_videolang.cli import main
from hf_videolang.inference.language_gap import TextTower, draw_rows
from hf_videolang.metrics.language_gap import language_gap
from tests.common.tiny.clip_vip import tiny_model, tiny_processor, tiny_tokenizer

SAMPLES, DRAWS = 30, 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A CLIP-ViP and a CLIP of the Hub, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    model = tiny_model()
    model.save_pretrained(folder / "clip_vip")
    tiny_processor(60).save_pretrained(folder / "clip_vip")
    text = {key: value for key, value in model.config.text_config.to_dict().items() if key != "model_type"}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    clip.save_pretrained(folder / "clip")
    tiny_tokenizer().save_pretrained(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two collections of one language, and one of another; in the first, one text is longer than the tower."""
    folder, generator = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    for name, letters in (("one", "abcdef"), ("same", "abcdef"), ("other", "uvwxyz")):
        lines = ["".join(generator.choice(list(letters), generator.integers(3, 9))) for _ in range(40)]
        if name == "one":
            lines = [*lines[: SAMPLES - 1], "abc" * 40]  # each draw takes all of them
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder


def gap(*words) -> int:
    settings = ("--samples", SAMPLES, "--draws", DRAWS, "--num-starts", 3, "--cpu")
    return main(["language-gap", *map(str, (*words, *settings))])


def test_table_files_and_values(models, texts, tmp_path, capsys):
    first = ("--first", texts / "one.txt", f"same={texts / 'same.txt'}")
    second = ("--second", f"foreign={texts / 'other.txt'}", f"native={texts / 'same.txt'}")
    assert gap("--model", models / "clip_vip", *first, *second, "--output-dir", tmp_path, "--seed", 5) == 0
    results = json.loads((tmp_path / "gap.json").read_text())
    pairs = {(pair["first"], pair["second"]): pair for pair in results["pairs"]}
    assert list(pairs) == [("one", "foreign"), ("one", "native"), ("same", "foreign"), ("same", "native")]
    assert results["collections"]["one"] == {"source": str(texts / "one.txt"), "texts": SAMPLES, "cut": 1}
    assert results["settings"]["features"] == "unit vectors" and results["settings"]["NMI average"] == "arithmetic"
    assert pairs["one", "foreign"]["mean"] > 0.3 > 0.1 > pairs["one", "native"]["mean"]
    output = capsys.readouterr().out
    for pair in pairs.values():
        nmi = pair["nmi"]
        assert len(nmi) == DRAWS and pair["mean"] == pytest.approx(sum(nmi) / DRAWS)
        variance = sum((value - pair["mean"]) ** 2 for value in nmi) / (DRAWS - 1)
        assert pair["std"] == pytest.approx(variance**0.5)
        assert f"{pair['mean']:.3f} ± {pair['std']:.3f}" in output
        with Image.open(tmp_path / f"{pair['first']}-{pair['second']}.png") as picture:
            assert picture.size == (1320, 600)
    assert "K-means, 2 clusters, best of 3 starts" in output
    # The same from each text alone: other batches, no padding.
    tower = TextTower(str(models / "clip_vip"), cpu=True)
    drawn = []
    for name, file in (("same", "same"), ("foreign", "other")):
        lines = (texts / f"{file}.txt").read_text().splitlines()
        rows = draw_rows(name, len(lines), Namespace(samples=SAMPLES, draws=DRAWS, seed=5))
        assert all(len(set(draw)) == SAMPLES for draw in rows.tolist())
        alone = np.concatenate([tower([line]) for line in lines])
        drawn.append((alone / np.linalg.norm(alone, axis=1)[:, None])[rows])
    expected = [language_gap(a, b, seed=5 + number, num_starts=3)[0] for number, (a, b) in enumerate(zip(*drawn))]
    assert pairs["same", "foreign"]["nmi"] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["clip_vip", "clip"])
def test_features_are_those_of_the_model(kind, models):
    tower = TextTower(str(models / kind), cpu=True)
    texts = ["abc def", "a", "much longer than the others", "x" * 100]
    model, tokenizer = AutoModel.from_pretrained(models / kind).eval(), tiny_tokenizer()
    for text, feature in zip(texts, tower(texts, batch_size=2)):
        ids = tokenizer(text, truncation=True, max_length=77, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model.get_text_features(ids).pooler_output[0]
        np.testing.assert_allclose(feature, expected, atol=1e-5)
    assert tower.num_cut == {"texts": 1}


def test_refusals(models, texts, tmp_path, capsys):
    def refused(*words, model="clip") -> str:
        assert gap("--model", models / model, *words, "--output-dir", tmp_path / "out") == 2
        return capsys.readouterr().err

    one, other = texts / "one.txt", texts / "other.txt"
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    assert "few has 2 texts, fewer than the 30 of a draw" in refused("--first", one, "--second", tmp_path / "few.txt")
    message = refused("--first", f"same={one}", "--second", f"same={other}")
    assert f"same is the name of two collections; write NAME={one}" in message
    assert "--seed is -1; expected at least 0" in refused("--first", one, "--second", other, "--seed", -1)
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    assert "latin.txt is no UTF-8" in refused("--first", one, "--second", tmp_path / "latin.txt")
    assert "no file of texts" in refused("--first", one, "--second", tmp_path / "none.txt")
    (models / "vit").mkdir(exist_ok=True)
    (models / "vit" / "config.json").write_text('{"model_type": "vit"}')
    assert "is a vit model; expected clip or clip_vip" in refused("--first", one, "--second", other, model="vit")
    assert not (tmp_path / "out").exists()
