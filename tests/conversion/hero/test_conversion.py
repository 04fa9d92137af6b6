"""Every layout of HERO converts and accounts for every key; what does not fit is refused and named."""

import json
import runpy
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMultipleChoice, AutoModelForSequenceClassification

from hf_videolang.cli import main
from hf_videolang.conversion.families import convert
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice, HeroForSequenceClassification
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor
from tests.common.tiny.hero import SPECIAL, word_tokenizer
from tests.conversion.hero.original_files import (
    FULL,
    TINY,
    layouts,
    random_values,
    tensors,
    write,
    write_config,
)
from tests.parity.cases import REPOSITORY, SHARED

LAYOUTS = layouts(TINY, cross=2, temporal=1)
FUSIONS = {
    "fusion_feature_add_retrieval__resnet_slowfast": "sum",
    "fusion_feature_concat_retrieval__resnet_slowfast": "concatenation",
    "fusion_sequence_retrieval__resnet_slowfast": "sequence",
}
# What the authors' configuration says of a fusion.
STATED = {
    "sum": {"model": "video_sub_feature_fusion", "video_sub_fusion_method": "add"},
    "concatenation": {"model": "video_sub_feature_fusion", "video_sub_fusion_method": "concat"},
    "sequence": {"model": "video_sub_sequence_model"},
}
CLASSES = {
    **{flavour: [HeroForVideoTextRetrieval] for flavour in FUSIONS},
    "pretrained_hero_tv_ht100": [HeroForVideoTextRetrieval],
    "finetuned_violin_first_release": [HeroForSequenceClassification],
    "finetuned_tvc_first_release": [HeroForVideoCaptioning],
    "finetuned_video_qa__resnet_slowfast": [HeroForMultipleChoice],
    "multitask_all__resnet_slowfast": [HeroForVideoTextRetrieval, HeroForMultipleChoice, HeroForVideoCaptioning],
}


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("options")
    word_tokenizer([*SPECIAL, *(f"w{number}" for number in range(4, 101))]).save_pretrained(folder / "tokenizer")
    return {"config": write_config(folder / "hero.json"), "tokenizer": folder / "tokenizer"}


def test_layouts_are_those_of_the_released_files():
    file = SHARED / "reference" / "hero" / "full_size_keys.json"
    if not file.exists():
        pytest.skip(f"the list of the released files' keys is not here ({file})")
    released = json.loads(file.read_text())
    for flavour, shapes in layouts(FULL, cross=6, temporal=3, caption_positions=1024).items():
        expected = {name: shape for name, shape, _ in released[flavour] if name != "vocab_padded"}
        assert shapes == expected, flavour
    same = {"finetuned_retrieval__resnet_slowfast": "pretrained_hero_tv_ht100"}
    same |= {"finetuned_captioning__resnet_slowfast": "finetuned_tvc_first_release"}
    for other, flavour in same.items():
        assert [name for name, _, _ in released[other]] == [name for name, _, _ in released[flavour]]


@pytest.mark.parametrize("flavour", LAYOUTS)
def test_every_layout_accounts_for_every_key(tmp_path, options, flavour):
    values, fusion = random_values(LAYOUTS[flavour]), FUSIONS.get(flavour, "cross_modal")
    if fusion != "cross_modal":
        options = {**options, "config": write_config(tmp_path / "hero.json", **STATED[fusion])}
    report = convert(write(values, tmp_path / "model_step_5000.pt"), tmp_path / "model", **options)
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert config.architectures == [one.__name__ for one in CLASSES[flavour]]
    assert config.cross_modal_config.num_attention_heads == 4 and config.cross_modal_config.layer_norm_eps == 1e-12
    assert config.max_frames == 12 and config.features is None and config.fusion == fusion
    state = {}
    for model_class in CLASSES[flavour]:
        state |= model_class.from_pretrained(tmp_path / "model").state_dict()
    captioner = HeroForVideoCaptioning.from_pretrained(tmp_path / "model", new_head=True)  # where training begins
    state |= {name: value for name, value in captioner.state_dict().items() if name.startswith("lm_head.")}
    del state["lm_head.decoder.weight"]  # tied
    assert captioner.config.label_smoothing == (0.103 if "decoder.tri_mask" in values else 0.1)  # 103 times 0.001
    assert captioner.generation_config.suppress_tokens == [101, 102, 103]
    assert captioner.generation_config.max_new_tokens == 30
    assert sorted(name for names in report["renamed"].values() for name in names) == sorted(state)
    for key, (name,) in report["renamed"].items():
        assert torch.equal(state[name], values[key])
    assert report["renamed"].keys() | report["dropped"].keys() == values.keys()
    for key in ("v_encoder.fom_output.linear_1.weight", "v_encoder.feat_regress.net.2.weight"):
        assert fusion != "cross_modal" or report["dropped"][key] == "pre-training has no class yet"
    assert "--config hero.json" in (tmp_path / "model" / "README.md").read_text()
    assert type(HeroProcessor.from_pretrained(tmp_path / "model")) is HeroProcessor


def test_a_folder_of_all_tasks_loads_into_each_class(tmp_path, options):
    values = random_values(LAYOUTS["multitask_all__resnet_slowfast"])
    convert(write(values, tmp_path / "a.pt"), tmp_path / "model", **options)
    loaded = [
        HeroForVideoTextRetrieval.from_pretrained(tmp_path / "model"),
        AutoModelForMultipleChoice.from_pretrained(tmp_path / "model"),
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "model"),
    ]
    for model in loaded:
        weight = model.hero.temporal_model.encoder.layer[0].output.dense.weight
        assert torch.equal(weight, values["v_encoder.c_encoder.encoder.layer.0.output.dense.weight"])
    assert torch.equal(loaded[2].answer_pool.weight, values["qa_pool.weight"])


def test_a_training_state_gives_the_same_model(tmp_path, options):
    values = random_values(LAYOUTS["pretrained_hero_tv_ht100"])
    convert(write(values, tmp_path / "a.pt"), tmp_path / "a", **options)
    half = {name: value.half() for name, value in tensors(values).items()}
    state = {"global_step": 7, "model_state_dict": half, "optim_state_dict": {"state": {}}}
    report = convert(write(state, tmp_path / "restore.pt"), tmp_path / "b", **options)
    assert {"global_step", "optim_state_dict"} <= report["dropped"].keys()
    one, other = (AutoModel.from_pretrained(tmp_path / name).state_dict() for name in "ab")
    for name, value in one.items():
        assert other[name].dtype == torch.float32 and torch.equal(other[name], value.half().float())


def test_features_have_a_name(tmp_path, options):
    sizes = {**TINY, "features": 2816}
    checkpoint = write(random_values(layouts(sizes, 2, 1)["pretrained_hero_tv_ht100"]), tmp_path / "a.pt")
    report = convert(checkpoint, tmp_path / "named", **options)
    assert not report["notes"]
    assert AutoConfig.from_pretrained(tmp_path / "named").features == "clip-vit_slowfast"
    assert HeroProcessor.from_pretrained(tmp_path / "named").features == "clip-vit_slowfast"
    report = convert(checkpoint, tmp_path / "unnamed", features="none", **options)
    assert "any features of width 2816 are taken" in report["notes"][0]
    with pytest.raises(
        ConversionError, match="'resnet', but the model reads rows of 2816; expected clip-vit_slowfast"
    ):
        convert(checkpoint, tmp_path / "wrong", features="resnet", **options)


def test_another_width_of_features_starts_fresh(tmp_path, options):
    values = random_values(LAYOUTS["pretrained_hero_tv_ht100"])
    checkpoint = write(values, tmp_path / "a.pt")
    report = convert(
        checkpoint, tmp_path / "model", video_feature_size="2816", features="clip-vit_slowfast", **options
    )
    model = HeroForVideoTextRetrieval.from_pretrained(tmp_path / "model")
    fresh = {name.split("hero.")[-1] for name in report["created"]}
    assert fresh == {
        "frame_transform.dense.weight",
        "frame_transform.LayerNorm.weight",
        "frame_transform.LayerNorm.bias",
        "cross_modal_model.frame_embeddings.dense.weight",
        "cross_modal_model.frame_embeddings.feature_LayerNorm.weight",
        "cross_modal_model.frame_embeddings.feature_LayerNorm.bias",
    }
    assert 0.019 < model.hero.frame_transform.dense.weight.std() < 0.021
    kept = model.hero.frame_transform.dense.bias
    assert torch.equal(kept, values["v_encoder.frame_transform.net.1.bias"])
    assert "frame_transform.dense.weight" in (tmp_path / "model" / "README.md").read_text()
    again = convert(checkpoint, tmp_path / "again", video_feature_size="2816", features="clip-vit_slowfast", **options)
    assert again["created"] == report["created"]


def test_another_vocabulary_has_no_processor(tmp_path, options):
    checkpoint = write(random_values(LAYOUTS["pretrained_hero_tv_ht100"]), tmp_path / "a.pt")
    report = convert(checkpoint, tmp_path / "model", config=options["config"])
    assert "No processor was written: the vocabulary has 104 entries" in report["notes"][-1]
    assert not list((tmp_path / "model").glob("*processor*"))


def changed(values, key, change):
    return {**values, key: change(values[key].clone())}


@pytest.mark.parametrize(
    ("change", "replaced", "message"),
    [
        (lambda v: {k: x for k, x in v.items() if "layer.1." not in k}, {}, "other sizes of cross_modal_config"),
        (lambda v: {k: x for k, x in v.items() if k != "video_query_linear.bias"}, {}, "missing: video_query_linear"),
        (lambda v: v | {"adapter": torch.ones(1)}, {}, "unexpected: adapter"),
        (lambda v: changed(v, "v_encoder.pad", lambda x: x + 1), {}, "other values than HERO's: v_encoder.pad"),
        (
            lambda v: changed(v, "v_encoder.f_encoder.lm_head.decoder.weight", lambda x: x + 1),
            {},
            "decoder.weight, which should equal",
        ),
        (lambda v: v, {"config": STATED["sequence"]}, "says fusion 'sequence', but the checkpoint has 'cross_modal'"),
        (lambda v: v, {"config": {"model": "video_sub_feature_fusion"}}, "cannot be read .*video_sub_fusion_method"),
        (lambda v: v, {"config": {"q_config": None}}, "JSON with f_config, c_config"),
        (lambda v: v, {"tokenizer": "./no/where"}, "./no/where cannot be loaded"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, options, change, replaced, message):
    options = {**options, **replaced}
    if "config" in replaced:
        options["config"] = write_config(tmp_path / "other.json", **replaced["config"])
    checkpoint = write(change(random_values(LAYOUTS["pretrained_hero_tv_ht100"])), tmp_path / "a.pt")
    with pytest.raises(ConversionError, match=message):
        convert(checkpoint, tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_the_launch_file(tmp_path, options, monkeypatch, capsys):
    checkpoint = write(random_values(LAYOUTS["pretrained_hero_tv_ht100"]), tmp_path / "hero-tv-ht100.pt")
    files = ["--config", options["config"], "--tokenizer", options["tokenizer"], "--features", "none"]
    script = REPOSITORY / "conversion" / "convert_hero.py"
    command = [script, "--checkpoint", checkpoint, *files, "--output-dir", "hero"]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr()
    assert end.value.code == 0 and printed.out.startswith("hero: HERO with retrieval,")
    assert "any features of width 16 are taken" in printed.err
    arguments = ["convert", str(checkpoint), "--features", "slowfast", "--output-dir", str(tmp_path / "other")]
    assert main(arguments) == 1
    assert "reads rows of 16; expected none" in capsys.readouterr().err
