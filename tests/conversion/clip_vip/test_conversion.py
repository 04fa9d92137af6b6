"""Every layout of the releases converts to the same numbers; what does not fit is refused and named."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor, CLIPConfig, CLIPModel

from benchmarks.convert_memory import LIMIT, measure
from hf_videolang.conversion.families import convert
from hf_videolang.conversion.untrusted import ConversionError
from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel
from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from tests.conversion.clip_vip.random_checkpoints import (
    B16,
    B32,
    LAYOUTS,
    MEDIUM,
    TINY,
    Size,
    openai_keys,
    random_tensors,
    wrapper_keys,
    write_checkpoint,
    write_layout,
    write_tokenizer,
)
from tests.parity.cases import SHARED

TRAINING_CONFIG = {
    "clip_config": "openai/clip-vit-base-patch16",
    "clip_vision_additional_config": {
        "type": "ViP",
        "temporal_size": TINY.frames,
        "if_use_temporal_embed": 1,
        "logit_scale_init_value": 4.6,
        "add_cls_num": TINY.added_proxies,
    },
    "train_num_frms": 32,
    "test_num_frms": 32,
    "max_txt_len": 50,
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), TINY.vocabulary)


@pytest.fixture(scope="module")
def wrapper() -> dict[str, torch.Tensor]:
    return random_tensors(wrapper_keys())


def training_config(folder: Path, additional: dict | None = None, **changed) -> Path:
    config = {**TRAINING_CONFIG, **changed}
    config["clip_vision_additional_config"] = {
        **config["clip_vision_additional_config"],
        **(additional or {}),
    }
    path = folder / "training.json"
    path.write_text(json.dumps(config))
    return path


def converted(tensors: dict, folder: Path, name: str = "checkpoint.pt", **options) -> CLIPViPModel:
    """Write, convert, load with `AutoModel`."""
    convert(write_checkpoint(tensors, folder / name), folder / "converted", **options)
    model = AutoModel.from_pretrained(folder / "converted")
    assert type(model) is CLIPViPModel
    return model


def assert_refused(folder: Path, message: str, tensors: dict, name: str = "checkpoint.pt", **options) -> None:
    """The conversion fails with `message` and leaves nothing beside the checkpoint."""
    checkpoint = write_checkpoint(tensors, folder / name)
    before = sorted(folder.iterdir())
    with pytest.raises(ConversionError, match=message):
        convert(checkpoint, folder / "converted", **options)
    assert sorted(folder.iterdir()) == before


def as_openai(hub: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Hub CLIP's tensors under OpenAI's names, from the table in clip_vip §2. The converter maps the other way."""
    blocks = [("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")]
    blocks += [("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")]
    names = [
        ("vision_model.encoder.layers", "visual.transformer.resblocks"),
        ("text_model.encoder.layers", "transformer.resblocks"),
        ("vision_model.embeddings.patch_embedding", "visual.conv1"),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.pre_layrnorm", "visual.ln_pre"),
        ("vision_model.post_layernorm", "visual.ln_post"),
        ("text_model.embeddings.token_embedding", "token_embedding"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_model.final_layer_norm", "ln_final"),
        *blocks,
    ]
    openai = {
        "visual.proj": hub["visual_projection.weight"].T,
        "text_projection": hub["text_projection.weight"].T,
    }
    for name, tensor in hub.items():
        if name.endswith("_projection.weight") or ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            tensor = torch.cat([hub[name.replace(".q_", f".{part}_")] for part in "qkv"])
            name = name.replace("self_attn.q_proj.", "attn.in_proj_")
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        openai[name] = tensor.contiguous()
    return {name: tensor.contiguous() for name, tensor in openai.items()}


def test_the_random_layouts_are_those_of_the_released_files():
    file = SHARED / "reference" / "clip_vip" / "full_size_keys.json"
    if not file.exists():
        pytest.skip(f"the list of the released files' keys is not here ({file})")
    released = json.loads(file.read_text())["keys"]
    names = {
        "clipvip_base": "wrapper.pt",
        "clipvip_meanpool_base": "mean_pooling.pt",
        "hub_clip_vit_base": "hub.safetensors",
        "openai_vit_b": "openai_torchscript.pt",
        "clip4clip_seqtransf_vit_b": "clip4clip.bin",
    }
    for flavour, keys in released.items():
        layout = next(layout for start, layout in names.items() if flavour.startswith(start))
        generated = LAYOUTS[layout](B16 if "16" in flavour else B32)
        assert sorted(map(list, generated)) == sorted(keys), flavour


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_converts_and_accounts_for_every_key(tmp_path, tokenizer, layout):
    file = write_layout(layout, TINY, tmp_path / layout)
    report = convert(file, tmp_path / "converted", tokenizer=tokenizer)
    assert report == json.loads((tmp_path / "converted" / "conversion_report.json").read_text())
    assert report["source"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert report["source"]["bytes"] == file.stat().st_size
    keys = [name for name, _, _ in LAYOUTS[layout]()]
    dropped = [key for key in report["dropped"] if key in keys]
    assert sorted([*report["renamed"], *dropped]) == sorted(keys)
    model, info = AutoModel.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert type(model) is CLIPViPModel and not any(info[kind] for kind in ("missing_keys", "unexpected_keys"))
    filled = [name for names in report["renamed"].values() for name in names] + list(report["created"])
    assert sorted(filled) == sorted(model.state_dict())
    assert {tensor.dtype for tensor in load_file(tmp_path / "converted" / "model.safetensors").values()} == {
        torch.float32
    }
    processor = AutoProcessor.from_pretrained(tmp_path / "converted")
    assert type(processor) is CLIPViPProcessor and processor.max_length == 77
    assert processor.video_processor.num_frames == model.config.vision_config.num_frames
    assert (tmp_path / "converted" / "README.md").read_text().count(report["source"]["sha256"]) == 1


def test_a_wrapper_keeps_its_tensors_and_gives_the_config(tmp_path, wrapper, tokenizer):
    model = converted(wrapper, tmp_path, tokenizer=tokenizer)
    expected = {
        name.removeprefix("clipmodel."): tensor for name, tensor in wrapper.items() if tensor.is_floating_point()
    }
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    vision, text = model.config.vision_config, model.config.text_config
    assert (vision.frame_fusion, vision.num_proxy_tokens, vision.num_frames) == ("proxy", 4, 4)
    assert (vision.hidden_size, vision.num_attention_heads, vision.intermediate_size) == (64, 1, 256)
    assert (vision.num_hidden_layers, vision.patch_size, vision.image_size) == (2, 8, 16)
    assert (text.vocab_size, text.max_position_embeddings, text.bos_token_id, text.eos_token_id) == (
        514,
        77,
        512,
        513,
    )
    assert model.config.projection_dim == 64


def test_variants_of_a_wrapper_give_the_same_model(tmp_path, wrapper):
    expected = converted(wrapper, tmp_path).state_dict()
    variants = {
        "compiled": {f"module._orig_mod.{name}": tensor for name, tensor in wrapper.items()},
        "no_buffers": {name: tensor for name, tensor in wrapper.items() if "position_ids" not in name},
        "halves": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in wrapper.items()},
        "no_prefix": {name.removeprefix("clipmodel."): tensor for name, tensor in wrapper.items()},
    }
    for variant, tensors in variants.items():
        (tmp_path / variant).mkdir()
        found = converted(tensors, tmp_path / variant).state_dict()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor.half().float() if variant == "halves" else tensor), (
                variant,
                name,
            )


def test_a_single_proxy(tmp_path, wrapper):
    """Without added proxies (`add_cls_num` 0), the original saves an empty tensor."""
    tensors = {**wrapper, "clipmodel.vision_model.embeddings.added_cls": torch.empty(0, TINY.vision_width)}
    config = training_config(tmp_path, {"add_cls_num": 0})
    for name, options in {"stated": {"config": config}, "guessed": {}}.items():
        (tmp_path / name).mkdir()
        model = converted(tensors, tmp_path / name, **options)
        assert model.config.vision_config.frame_fusion == "proxy"
        assert model.config.vision_config.num_proxy_tokens == 1
        report = json.loads((tmp_path / name / "converted" / "conversion_report.json").read_text())
        assert "empty" in report["dropped"]["clipmodel.vision_model.embeddings.added_cls"]
    pixels = torch.randn(1, 4, 3, 16, 16)
    assert model.get_video_features(pixels).pooler_output.isfinite().all()


def test_openai_archive_and_hub_file_of_one_clip_give_one_model(tmp_path):
    hub = random_tensors([key for key in wrapper_keys(video_proxy=False, prefix="") if "position_ids" not in key[0]])
    models = {}
    for name, tensors in {"clip.safetensors": hub, "torchscript.pt": as_openai(hub)}.items():
        (tmp_path / name).mkdir()
        models[name] = converted(tensors, tmp_path / name, name)
    from_hub, from_openai = (model.state_dict() for model in models.values())
    assert from_hub.keys() == from_openai.keys()
    assert all(torch.equal(from_hub[name], from_openai[name]) for name in from_hub)
    for name, tensor in hub.items():
        if name != "logit_scale":
            assert torch.equal(from_hub[name], tensor), name


def test_clip_becomes_clip_vip_as_the_original_initialises_it(tmp_path):
    file = write_layout("hub.safetensors", Size(vision_width=640), tmp_path / "clip.safetensors")
    states = {}
    for name, options in {"a": {}, "b": {}, "c": {"seed": 7}}.items():
        report = convert(file, tmp_path / name, **options)
        states[name] = load_file(tmp_path / name / "model.safetensors")
    added = states["a"]["vision_model.embeddings.added_cls"]
    assert added.shape == (3, 640) and abs(added.std() - 1) < 0.1 and abs(added.mean()) < 0.1
    assert torch.equal(added, states["b"]["vision_model.embeddings.added_cls"])
    assert not torch.equal(added, states["c"]["vision_model.embeddings.added_cls"])
    assert report["seed"] == 7 and "seed 7" in report["created"]["vision_model.embeddings.added_cls"]
    assert torch.equal(states["a"]["vision_model.embeddings.temporal_embedding"], torch.zeros(1, 12, 640))
    assert states["a"]["logit_scale"].item() == pytest.approx(4.6)
    assert "4.6" in report["dropped"]["logit_scale"]


def test_a_folder_of_clip_on_the_hub_keeps_its_heads_and_outputs(tmp_path):
    """Only config.json tells that heads are not 64 wide. The reference is transformers' own CLIP."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    clip = CLIPModel(
        CLIPConfig(
            projection_dim=32,
            text_config={**shape, "vocab_size": 99, "max_position_embeddings": 20, "eos_token_id": 2},
            vision_config={**shape, "image_size": 16, "patch_size": 8},
        )
    ).eval()
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    clip.save_pretrained(tmp_path / "clip")
    config = training_config(tmp_path, {"type": "MeanPool", "add_cls_num": 0}, max_txt_len=20)
    convert(tmp_path / "clip", tmp_path / "converted", config=config)
    model = AutoModel.from_pretrained(tmp_path / "converted")
    assert model.config.vision_config.num_attention_heads == 4
    assert model.config.vision_config.frame_fusion == "mean_pooling"
    ids, pixels = torch.tensor([[97, 5, 6, 98, 98], [97, 7, 98, 98, 98]]), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = clip(input_ids=ids, pixel_values=pixels)
        found = model(input_ids=ids, pixel_values_videos=pixels[:, None])
    torch.testing.assert_close(found.text_embeds, expected.text_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.video_embeds, expected.image_embeds, atol=1e-6, rtol=0)


def test_mean_pooling_and_full_attention_wrappers(tmp_path, wrapper):
    plain = {name: tensor for name, tensor in wrapper.items() if "added_cls" not in name}
    (tmp_path / "full").mkdir()
    config = training_config(tmp_path, {"type": "FullAttention", "add_cls_num": 0})
    full = converted(plain, tmp_path / "full", config=config)
    assert full.config.vision_config.frame_fusion == "full_attention"
    assert full.config.vision_config.num_frames == TINY.frames

    plain = {name: tensor for name, tensor in plain.items() if "temporal" not in name}
    for name, config in (("stated", training_config(tmp_path, {"type": "any other"})), ("guessed", None)):
        (tmp_path / name).mkdir()
        model = converted(plain, tmp_path / name, config=config)
        assert model.config.vision_config.frame_fusion == "mean_pooling"
    report = json.loads((tmp_path / "guessed" / "converted" / "conversion_report.json").read_text())
    assert "neither proxies nor a temporal embedding" in report["config_decisions"]["vision_config.frame_fusion"]


def test_clip4clip_with_both_heads(tmp_path, tokenizer):
    file = write_layout("clip4clip.bin", TINY, tmp_path / "pytorch_model.bin.4")
    tensors = random_tensors(LAYOUTS["clip4clip.bin"]())
    convert(file, tmp_path / "sequence", tokenizer=tokenizer)
    model = AutoModel.from_pretrained(tmp_path / "sequence")
    vision = model.config.vision_config
    assert vision.frame_fusion == "sequence_transformer"
    assert (vision.num_sequence_layers, vision.num_sequence_heads, vision.max_sequence_frames) == (2, 1, 77)
    state = model.state_dict()
    block = tensors["transformerClip.resblocks.1.attn.in_proj_weight"]
    assert torch.equal(state["sequence_transformer.layers.1.self_attn.k_proj.weight"], block[64:128])
    positions = tensors["frame_position_embeddings.weight"]
    assert torch.equal(state["sequence_transformer.frame_position_embedding.weight"], positions)
    assert torch.equal(state["visual_projection.weight"], tensors["clip.visual.proj"].float().T)
    assert torch.equal(state["logit_scale"], tensors["clip.logit_scale"])
    video_processor = AutoProcessor.from_pretrained(tmp_path / "sequence").video_processor
    assert video_processor.do_center_crop and video_processor.antialias
    pixels = video_processor(torch.rand(4, 3, 40, 20), return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape[-3:] == (3, 16, 16)

    config = tmp_path / "args.json"
    config.write_text(json.dumps({"sim_header": "meanP", "max_frames": 6, "max_words": 32}))
    report = convert(file, tmp_path / "mean", config=config, tokenizer=tokenizer)
    processor = AutoProcessor.from_pretrained(tmp_path / "mean")
    assert (processor.max_length, processor.video_processor.num_frames) == (32, 6)
    assert AutoModel.from_pretrained(tmp_path / "mean").config.vision_config.frame_fusion == "mean_pooling"
    assert "meanP" in report["dropped"]["frame_position_embeddings.weight"]


def test_training_config_sets_the_processor_but_not_the_temporal_embedding(tmp_path, wrapper, tokenizer):
    model = converted(wrapper, tmp_path, config=training_config(tmp_path), tokenizer=tokenizer)
    processor = AutoProcessor.from_pretrained(tmp_path / "converted")
    assert (processor.video_processor.num_frames, processor.max_length) == (32, 50)
    assert processor.video_processor.size == {"height": 16, "width": 16}
    assert model.config.vision_config.num_frames == 4


WRONG_KEYS = {
    "missing, needed for sizes": (
        "vision_model.embeddings.patch_embedding.weight",
        None,
        r"missing: clipmodel\.vision_model\.embeddings\.patch_embedding\.weight",
    ),
    "missing proxies": ("vision_model.embeddings.added_cls", None, r"missing: clipmodel\..*added_cls"),
    "missing time": (
        "vision_model.embeddings.temporal_embedding",
        None,
        r"missing: clipmodel\..*temporal_embedding",
    ),
    "giant layer": (
        None,
        {"text_model.encoder.layers.999999999.layer_norm1.bias": torch.ones(64)},
        r"unexpected: clipmodel\.text_model\.encoder\.layers\.999999999",
    ),
    "renamed": (
        "vision_model.pre_layrnorm.weight",
        {"vision_model.pre_layernorm.weight": torch.ones(64)},
        r"pre_layrnorm\.weight \(renamed to clipmodel\.vision_model\.pre_layernorm\.weight\?\)",
    ),
    "reshaped, sets a size": (
        None,
        {"visual_projection.weight": torch.ones(32, 64)},
        r"unfit: clipmodel\.text_projection\.weight has shape \[64, 64\], expected \[32, 64\]",
    ),
    "flattened": (
        None,
        {"vision_model.embeddings.patch_embedding.weight": torch.ones(64, 192)},
        r"patch_embedding\.weight has shape \[64, 192\], expected \[64, 192, 32, 32\]",
    ),
    "shortened": (
        None,
        {"text_model.embeddings.position_embedding.weight": torch.ones(50, 64)},
        r"clipmodel\.text_model\.embeddings\.position_ids says 77, the shape of .*position_embedding\.weight says 50",
    ),
    "no square": (
        "vision_model.embeddings.position_ids",
        {"vision_model.embeddings.position_embedding.weight": torch.ones(7, 64)},
        r"position_embedding\.weight has shape \[7, 64\], expected \[5, 64\]",
    ),
    "empty": (
        None,
        {"text_model.embeddings.token_embedding.weight": torch.ones(0, 64)},
        r"token_embedding\.weight has shape \[0, 64\]",
    ),
    "not a tensor": (None, {"logit_scale": 4.6}, r"logit_scale is a float, expected a tensor"),
    "more than tensors": (None, {"epoch": 3}, r"unexpected: clipmodel\.epoch"),
}


@pytest.mark.parametrize("change", WRONG_KEYS)
def test_a_wrong_key_is_named_and_nothing_is_left(tmp_path, wrapper, tokenizer, change):
    removed, added, message = WRONG_KEYS[change]
    tensors = {name: tensor for name, tensor in wrapper.items() if name != f"clipmodel.{removed}"}
    tensors |= {f"clipmodel.{name}": tensor for name, tensor in (added or {}).items()}
    assert_refused(tmp_path, message, tensors, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [
        ("visual.ln_pre.weight", {}, r"missing: visual\.ln_pre\.weight"),
        (
            None,
            {"visual.proj": torch.ones(3)},
            r"visual\.proj has shape \[3\], from which .*visual_projection\.weight",
        ),
        (
            None,
            {"transformer.resblocks.1.attn.in_proj_weight": torch.ones(190, 64)},
            r"unfit: transformer\.resblocks\.1\.attn\.in_proj_weight has shape \[190, 64\], from which .*q_proj",
        ),
        (None, {"input_resolution": torch.tensor(224)}, "input_resolution says 224, .* says 16"),
    ],
)
def test_errors_about_an_openai_archive_use_its_own_names(tmp_path, removed, added, message):
    tensors = {name: tensor for name, tensor in random_tensors(openai_keys()).items() if name != removed} | added
    assert_refused(tmp_path, message, tensors, "torchscript.pt")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"additional": {"temporal_size": 12}},
            r"num_frames: training\.json says 12, .*temporal_embedding says 4",
        ),
        ({"additional": {"add_cls_num": 7}}, r"num_proxy_tokens: training\.json says 8, .*added_cls says 4"),
        ({"additional": {"type": "MeanPool"}}, r"unexpected: clipmodel.*added_cls"),
        ({"additional": {"if_use_temporal_embed": 0}}, r"unexpected: clipmodel.*temporal_embedding"),
        (
            {"clip_config": {"vision_config": {"hidden_size": 768}}},
            r"vision_config\.hidden_size: training\.json says 768",
        ),
        ({"clip_config": {"text_config": {"num_attention_heads": 5}}}, "num_attention_heads is 5"),
        ({"additional": {"add_cls_num": None}}, r"training\.json has a value of the wrong kind"),
        ({"max_txt_len": 78}, "texts of 78 tokens, the model has 77 positions"),
    ],
)
def test_a_training_config_must_agree_with_the_tensors(tmp_path, wrapper, changed, message):
    assert_refused(tmp_path, message, wrapper, config=training_config(tmp_path, **changed))


def test_a_file_that_is_not_a_training_config_is_refused(tmp_path, wrapper):
    assert_refused(
        tmp_path, r"typo\.json cannot be read as JSON: .*No such file", wrapper, config=tmp_path / "typo.json"
    )
    for content, message in {
        "not json": "cannot be read as JSON",
        "[1]": "holds a list",
        '{"model_type": "clip"}': r"not a training config .* it has model_type",
        '{"sim_header": "tightTransf"}': "sim_header 'tightTransf'; of CLIP4Clip's heads only meanP and seqTransf",
    }.items():
        (tmp_path / "config_file.json").write_text(content)
        assert_refused(tmp_path, message, wrapper, config=tmp_path / "config_file.json")


def test_narrow_heads_need_a_config(tmp_path):
    tensors = random_tensors(wrapper_keys(Size(text_width=48)))
    assert_refused(tmp_path, r"do not tell text_config\.num_attention_heads.* 48.*--config", tensors)
    config = training_config(tmp_path, clip_config={"text_config": {"num_attention_heads": 4}})
    assert converted(tensors, tmp_path, config=config).config.text_config.num_attention_heads == 4


def test_a_converted_folder_is_not_converted_again(tmp_path, wrapper):
    converted(wrapper, tmp_path)
    with pytest.raises(ConversionError, match="converted already"):
        convert(tmp_path / "converted", tmp_path / "again")


def test_a_tokenizer_must_fit_the_vocabulary(tmp_path, wrapper):
    report = convert(write_checkpoint(wrapper, tmp_path / "checkpoint.pt"), tmp_path / "without")
    assert any("No tokenizer" in note and "--tokenizer" in note for note in report["notes"])
    assert type(AutoVideoProcessor.from_pretrained(tmp_path / "without")) is CLIPViPVideoProcessor
    other = write_tokenizer(tmp_path / "other", 600)
    assert_refused(tmp_path, "it has 600 entries .* the model has 514", wrapper, tokenizer=other)
    (tmp_path / "nothing").mkdir()
    assert_refused(tmp_path, "nothing cannot be loaded", wrapper, tokenizer=tmp_path / "nothing")


def test_memory_is_bounded_by_the_file():
    """The hardest case: halves become float32. benchmarks/convert_memory.py has the published sizes."""
    assert measure("restore.pt", MEDIUM)["multiple"] <= LIMIT
