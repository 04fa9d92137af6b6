"""Every layout of VideoCLIP and VLM converts and accounts for every key; what does not fit is refused and named."""

import json
import re
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    AutoProcessor,
    BertConfig,
    BertForPreTraining,
    BertTokenizer,
)

from hf_videolang.cli import main
from hf_videolang.conversion.families import convert
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.videoclip.modeling_videoclip import VideoCLIPForTokenClassification, VideoCLIPModel
from hf_videolang.models.videoclip.processing_videoclip import VideoCLIPProcessor
from tests.common.tiny.videoclip import VOCABULARY
from tests.conversion.s3d.original_file import write_original as write_s3d
from tests.conversion.videoclip.original_files import FULL, TINY, in_container, layouts, random_values, write
from tests.parity.cases import REPOSITORY, SHARED

LAYOUTS = layouts(TINY, video=2, text=3, labels=5)
HEADS = {"num_attention_heads": 4}
RUN = {"dataset": {"max_video_len": 8, "max_len": 24}, "model": {"model_cls": "MMFusionSeparate"}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """`[CLS]` and `[SEP]` have the ids 101 and 102 of BERT, so the vocabulary is larger than the models' here."""
    folder = tmp_path_factory.mktemp("tokenizer")
    entries = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VOCABULARY[5:]]
    BertTokenizer(vocab={entry: index for index, entry in enumerate(entries)}).save_pretrained(folder)
    return folder


@pytest.fixture
def options(tmp_path) -> dict[str, Path]:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    (tmp_path / "bert.json").write_text(json.dumps(HEADS))
    return {"config": tmp_path / "run.yaml", "bert_config": tmp_path / "bert.json"}


def test_layouts_are_those_of_the_released_files():
    file = SHARED / "reference" / "videoclip" / "full_size_keys.json"
    if not file.exists():
        pytest.skip(f"the list of the released files' keys is not here ({file})")
    released = json.loads(file.read_text())["flavours"]
    generated = layouts(FULL, video=6, text=12, labels=779)
    assert generated.keys() == released.keys()
    for flavour, shapes in generated.items():
        assert {f"mmmodel.{name}": shape for name, shape in shapes.items()} == {
            name: shape for name, shape, _ in released[flavour]["keys"]
        }, flavour


@pytest.mark.parametrize("flavour", LAYOUTS)
def test_every_layout_accounts_for_every_key(tmp_path, options, flavour):
    values = random_values(LAYOUTS[flavour])
    encoder = {"videoclip": "separate", "videoretri": "shared", "vlm": "isolated"}[flavour.split("_")[0]]
    if encoder != "separate":
        del options["config"]  # the keys tell
    report = convert(write(values, tmp_path / "checkpoint_best.pt"), tmp_path / "model", **options)
    model = AutoModel.from_pretrained(tmp_path / "model")
    assert type(model) is VideoCLIPModel
    head = "coin" in flavour
    if head:
        model = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
        assert model.config.num_labels == 5
    assert type(model) is (VideoCLIPForTokenClassification if head else VideoCLIPModel)
    assert model.config.encoder == encoder and model.config.video_config.attend_to_cls is (encoder != "isolated")
    assert model.config.video_config.num_attention_heads == 4 and model.config.text_config.layer_norm_eps == 1e-12
    assert model.config.video_config.max_video_length == (8 if encoder == "separate" else 32)

    state = model.state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert sorted(name for names in report["renamed"].values() for name in names) == sorted(state)
    for key, (name,) in report["renamed"].items():
        assert torch.equal(state[name], values[key].float())
    dropped = {key for key in report["dropped"] if key in values}
    assert dropped | report["renamed"].keys() == values.keys()
    for key in dropped:
        assert any(part in key for part in ("position_ids", "pooler", "seg_embeddings", ".cls.")), key
    assert set(in_container({})) - {"model"} <= report["dropped"].keys()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert ("not trained by contrast" in card) is (encoder == "isolated")


def test_variants_of_a_file_give_the_same_model(tmp_path, options):
    values = random_values(LAYOUTS["videoclip_pretrained"])
    variants = {
        "container": in_container(values),
        "without_buffers": {name: value for name, value in values.items() if "position_ids" not in name},
        "with_prefix": {f"mmmodel.{name}": value for name, value in values.items()},
        "wrapped": {"state_dict": values},
        "old": in_container(values) | {"args": Namespace(fp16=True), "cfg": None},
    }
    found = {}
    for name, content in variants.items():
        torch.save(content, tmp_path / f"{name}.pt")
        convert(tmp_path / f"{name}.pt", tmp_path / name, **options)
        found[name] = AutoModel.from_pretrained(tmp_path / name).state_dict()
    for name, state in found.items():
        assert all(torch.equal(value, found["container"][key]) for key, value in state.items()), name


def test_processor_has_the_lengths_of_the_run(tmp_path, tokenizer, options):
    convert(
        write(random_values(LAYOUTS["videoclip_pretrained"]), tmp_path / "a.pt"),
        tmp_path / "model",
        tokenizer=tokenizer,
        **options,
    )
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert type(processor) is VideoCLIPProcessor
    assert processor.max_length == 24 - 8 - 1 and processor.video_processor.max_clips == 8
    ids = processor(text="ab" * 30)["input_ids"][0]
    assert len(ids) == 15 and ids[0] == 101 and ids[-1] == 102


def test_s3d_inside(tmp_path, options, capfd):
    checkpoint, dictionary = write_s3d(tmp_path)
    convert(checkpoint, tmp_path / "s3d", dictionary=dictionary)
    report = convert(
        write(random_values(LAYOUTS["videoclip_pretrained"]), tmp_path / "a.pt"),
        tmp_path / "model",
        s3d=tmp_path / "s3d",
        **options,
    )
    assert all(how == "from the S3D in s3d" for how in report["created"].values())
    model, rows = AutoModel.from_pretrained(tmp_path / "model"), AutoModel.from_pretrained(tmp_path / "s3d")
    pixels = torch.randint(0, 256, (1, 60, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        features = torch.nn.functional.normalize(rows.video_model(pixels).video_features, dim=-1)
        found = model.get_video_features(pixels).pooler_output
        assert torch.equal(found, model.get_video_features(video_features=features).pooler_output)
    assert "--s3d s3d" in (tmp_path / "model" / "README.md").read_text()

    with pytest.raises(ConversionError, match="model is no folder of S3D .*it holds a model of type videoclip"):
        convert(tmp_path / "a.pt", tmp_path / "again", s3d=tmp_path / "model", **options)
    assert "LOAD REPORT" not in capfd.readouterr().err


@pytest.mark.parametrize("old_names", [False, True])
def test_bert_becomes_an_untrained_videoclip(tmp_path, old_names):
    torch.manual_seed(0)
    sizes = {"vocab_size": 156, "hidden_size": 48, "intermediate_size": 96, "max_position_embeddings": 40}
    bert = BertForPreTraining(BertConfig(**sizes, num_hidden_layers=8, num_attention_heads=3))
    bert.save_pretrained(tmp_path / "bert")
    if old_names:
        file = tmp_path / "bert" / "model.safetensors"
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        pattern = re.compile("|".join(old))
        values = load_file(file)
        save_file({pattern.sub(lambda m: old[m[0]], name): value for name, value in values.items()}, file)
    report = convert(tmp_path / "bert", tmp_path / "model")
    model = AutoModel.from_pretrained(tmp_path / "model")
    text, video = model.config.text_config, model.config.video_config
    assert (text.num_hidden_layers, video.num_hidden_layers) == (8, 6)
    assert text.num_attention_heads == video.num_attention_heads == 3
    source = bert.bert.state_dict()
    for name, value in (*model.text_model.bert.state_dict().items(), *model.video_model.bert.state_dict().items()):
        assert torch.equal(value, source[name])
    projector = model.video_model.projector
    assert 0.015 < projector.linear1.weight.std() < 0.025 and not projector.linear1.bias.any()  # N(0, 0.02)
    assert (projector.LayerNorm.weight == 1).all()
    assert all(name.startswith("video_model.projector.") for name in report["created"])
    assert all(key.startswith(("cls.", "bert.pooler.")) for key in report["dropped"])
    assert "cc-by-nc" not in (tmp_path / "model" / "README.md").read_text()


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def poisoned(values):
    return in_container(values) | {"extra_state": Evil()}


def foreign_class_in_a_namespace(values):
    return in_container(values) | {"args": Namespace(loss=torch.nn.Linear(1, 1))}


@pytest.mark.parametrize(
    ("change", "name"), [(poisoned, "print"), (foreign_class_in_a_namespace, "torch.nn.modules.linear.Linear")]
)
def test_a_file_that_could_run_code_is_refused(tmp_path, options, change, name, capsys):
    torch.save(change(random_values(LAYOUTS["videoclip_pretrained"])), tmp_path / "a.pt")
    with pytest.raises(ConversionError, match=f"refused and nothing in it was run: its pickle names .*{name}"):
        convert(tmp_path / "a.pt", tmp_path / "model", **options)
    assert "run" not in capsys.readouterr().out and not (tmp_path / "model").exists()


def less(values, start):
    return {name: value for name, value in values.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("flavour", "change", "replaced", "message"),
    [
        (
            "videoclip_pretrained",
            lambda v: less(v, "text_encoder.encoder.layer.1."),
            {},
            "missing: text_encoder.encoder.layer",
        ),
        ("videoclip_pretrained", lambda v: v | {"adapter": torch.ones(1)}, {}, "unexpected: adapter"),
        ("videoclip_pretrained", lambda v: v, {"bert_config": None}, None),
        ("videoclip_pretrained", lambda v: v, {"bert_config": {"hidden_size": 32}}, "hidden_size 32, .* 64"),
        (
            "videoclip_pretrained",
            lambda v: v,
            {"bert_config": {"num_attention_heads": 7}},
            "give no valid model|multiple",
        ),
        ("videoclip_pretrained", lambda v: v, {"config": {"model": {}}}, "KeyError.* It has dataset.max_video_len"),
        ("vlm_pretrained", lambda v: v, {}, "encoder 'separate', but the keys .* 'isolated'"),
        (
            "videoclip_pretrained",
            lambda v: v,
            {"s3d": "nowhere"},
            "nowhere is no folder of S3D .*pass its folder as --s3d",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, options, flavour, change, replaced, message):
    for name, content in replaced.items():
        if isinstance(content, dict):
            options[name].write_text(json.dumps(content))  # JSON is YAML, too
        else:
            options[name] = content
    options = {name: value for name, value in options.items() if value is not None}
    checkpoint = write(change(random_values(LAYOUTS[flavour])), tmp_path / "a.pt")
    if message is None:  # a width of 64 has one head, without a config
        convert(checkpoint, tmp_path / "model", **options)
        return
    with pytest.raises(ConversionError, match=message):
        convert(checkpoint, tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_a_width_that_does_not_tell_its_heads(tmp_path):
    shapes = layouts({**TINY, "width": 48}, 2, 3, 0)["videoclip_pretrained"]
    with pytest.raises(ConversionError, match="48, is not a multiple of 64; pass its config.json as --bert-config"):
        convert(write(random_values(shapes), tmp_path / "a.pt"), tmp_path / "model")


def test_a_tokenizer_of_another_vocabulary(tmp_path, tokenizer, options):
    shapes = layouts({**TINY, "vocabulary": 150}, 2, 3, 0)["videoclip_pretrained"]
    checkpoint = write(random_values(shapes), tmp_path / "a.pt")
    with pytest.raises(ConversionError, match=r"does not fit: it has 156 entries .* the model 150"):
        convert(checkpoint, tmp_path / "model", tokenizer=tokenizer, **options)


def test_the_launch_file_and_a_wrong_option(tmp_path, options, monkeypatch, capsys):
    convert(write_s3d(tmp_path)[0], tmp_path / "s3d")
    checkpoint = write(random_values(LAYOUTS["videoclip_pretrained"]), tmp_path / "checkpoint_best.pt")
    files = ["--config", options["config"], "--bert-config", options["bert_config"], "--s3d", "s3d"]
    script = REPOSITORY / "conversion" / "convert_videoclip.py"
    command = [script, "--checkpoint", checkpoint, *files, "--output-dir", "videoclip"]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0 and capsys.readouterr().out.startswith("videoclip: VideoCLIP,")

    output = str(tmp_path / "other")
    assert main(["convert", str(checkpoint), "--dictionary", "s3d_dict.npy", "--output-dir", output]) == 1
    assert capsys.readouterr().err == "error: A checkpoint of VideoCLIP takes no --dictionary.\n"
    assert not (tmp_path / "other").exists()
