"""CLIP-ViP's model class against a dense twin, against itself alone, and through what users do with a model."""

import copy

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel

from hf_videolang.models.clip_vip.modeling_clip_vip import (
    CLIPViPModel,
    CLIPViPTextModel,
    CLIPViPTextModelWithProjection,
    CLIPViPVisionModel,
    CLIPViPVisionModelWithProjection,
    QuickGELU,
)
from tests.common.tiny.clip_vip import tiny_config, tiny_inputs, tiny_model
from tests.models.clip_vip.dense_reference import allowed, encode_one_clip

FUSIONS = ["proxy", "mean_pooling", "sequence_transformer", "full_attention"]
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


def gradients(model, inputs, **kwargs):
    model.zero_grad()
    model(**inputs, return_loss=True, **kwargs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("frames", [1, 3, 4, 9])
def test_video_tower_equals_dense_attention(attention, frames):
    model = tiny_model()
    model.set_attn_implementation(attention)
    pixels = tiny_inputs(frames=frames)["pixel_values_videos"]
    with torch.no_grad():
        output = model(pixel_values_videos=pixels, pooled_only=False)
        pooled_only = model(pixel_values_videos=pixels)
        for index, clip in enumerate(pixels):
            hidden, embedding = encode_one_clip(model, clip)
            torch.testing.assert_close(
                output.vision_model_output.last_hidden_state[index], hidden, atol=2e-5, rtol=1e-5
            )
            torch.testing.assert_close(output.video_embeds[index], embedding, **CLOSE)
            torch.testing.assert_close(pooled_only.video_embeds[index], embedding, **CLOSE)
    assert pooled_only.vision_model_output.last_hidden_state is None


@pytest.mark.parametrize("fusion", FUSIONS)
def test_pooled_only_gradients_equal_those_of_the_full_output(fusion):
    model, inputs = tiny_model(frame_fusion=fusion).double(), tiny_inputs()
    full = gradients(model, inputs, pooled_only=False)
    for name, gradient in gradients(model, inputs).items():
        torch.testing.assert_close(gradient, full[name], atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_padded_clips_equal_clips_alone(fusion, attention):
    model = tiny_model(frame_fusion=fusion)
    model.set_attn_implementation(attention)
    pixels = tiny_inputs(batch=3, frames=6)["pixel_values_videos"]
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1]])
    with torch.no_grad():
        together = model(pixel_values_videos=pixels, video_attention_mask=mask).video_embeds
        pixels[mask == 0] = 1e3  # what stands in the padding is of no account
        again = model(pixel_values_videos=pixels, video_attention_mask=mask).video_embeds
        for index, real in enumerate(mask.bool()):
            alone = model(pixel_values_videos=pixels[index : index + 1, real]).video_embeds[0]
            torch.testing.assert_close(together[index], alone, **CLOSE)
            torch.testing.assert_close(again[index], alone, **CLOSE)


def test_text_is_pooled_at_the_first_end_token_and_padding_is_of_no_account():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        masked = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
        unmasked = model.get_text_features(inputs["input_ids"]).pooler_output
        for row, ids in enumerate(inputs["input_ids"]):
            first_end = ids.tolist().index(513)
            cut = model.get_text_features(ids[None, : first_end + 1]).pooler_output[0]
            torch.testing.assert_close(masked[row], cut, **CLOSE)
            torch.testing.assert_close(unmasked[row], cut, **CLOSE)


def test_eager_attention_maps_and_hidden_states():
    model, inputs = tiny_model(), tiny_inputs()
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True, output_hidden_states=True)
    video, text = output.vision_model_output, output.text_model_output
    tokens = 4 + 4 * 16
    assert [tuple(a.shape) for a in video.attentions] == [(2, 4, tokens, tokens)] * 3
    assert [tuple(h.shape) for h in video.hidden_states] == [(2, tokens, 64)] * 4
    assert len(text.attentions) == 2 and len(text.hidden_states) == 3
    for maps in video.attentions:
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, tokens))
        assert torch.equal(maps > 0, allowed(4, 16, 4).expand_as(maps))
    torch.testing.assert_close(video.hidden_states[-1], video.last_hidden_state)
    # The maps are those that made the output: rebuild block 0 from them.
    layer = model.vision_model.encoder.layers[0]
    values = layer.self_attn.v_proj(layer.layer_norm1(video.hidden_states[0])).unflatten(-1, (4, 16))
    attended = torch.einsum("bhqk,bkhd->bqhd", video.attentions[0], values).flatten(2)
    hidden = video.hidden_states[0] + layer.self_attn.out_proj(attended)
    hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    torch.testing.assert_close(hidden, video.hidden_states[1], atol=1e-5, rtol=1e-5)


def test_logits_and_loss_by_hand():
    model, inputs = tiny_model(), tiny_inputs(batch=3)
    output = model(**inputs, return_loss=True)
    scores = torch.stack(
        [torch.stack([text @ video for video in output.video_embeds]) for text in output.text_embeds]
    ) * torch.exp(torch.tensor(4.6))
    torch.testing.assert_close(output.logits_per_text, scores)
    torch.testing.assert_close(output.logits_per_video, scores.T)
    by_hand = -sum(
        torch.log(torch.exp(scores[i, i]) / torch.exp(scores[i]).sum())
        + torch.log(torch.exp(scores[i, i]) / torch.exp(scores[:, i]).sum())
        for i in range(3)
    )
    torch.testing.assert_close(output.loss, by_hand / 6)
    assert torch.equal(model(**inputs, return_dict=False)[0], output.logits_per_video)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_save_and_load(fusion, tmp_path):
    model, inputs = tiny_model(frame_fusion=fusion), tiny_inputs()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is CLIPViPModel
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits_per_text, model(**inputs).logits_per_text)


@pytest.mark.parametrize("fusion", ["proxy", "sequence_transformer"])
def test_towers_load_from_the_whole_model_and_alone(fusion, tmp_path, capfd):
    model, inputs = tiny_model(frame_fusion=fusion), tiny_inputs()
    model.save_pretrained(tmp_path / "whole")
    text_inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    video_inputs = {"pixel_values_videos": inputs["pixel_values_videos"]}
    expected_text = model.get_text_features(**text_inputs).pooler_output
    expected_video = model.get_video_features(**video_inputs).pooler_output
    for tower_class, field, tower_inputs, expected in [
        (CLIPViPTextModelWithProjection, "text_embeds", text_inputs, expected_text),
        (CLIPViPVisionModelWithProjection, "video_embeds", video_inputs, expected_video),
        (CLIPViPTextModel, "pooler_output", text_inputs, model.text_model(**text_inputs).pooler_output),
        (CLIPViPVisionModel, "pooler_output", video_inputs, model.vision_model(**video_inputs).pooler_output),
    ]:
        tower = tower_class.from_pretrained(tmp_path / "whole")
        assert torch.equal(tower(**tower_inputs)[field], expected)
        tower.save_pretrained(tmp_path / tower_class.__name__)
        again = tower_class.from_pretrained(tmp_path / tower_class.__name__)
        assert torch.equal(again(**tower_inputs)[field], expected)
    assert "UNEXPECTED" not in capfd.readouterr().err.upper()


def test_a_missing_weight_is_an_error_or_takes_its_documented_value(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    documented = {
        "vision_model.embeddings.temporal_embedding": (0.0, 0.0),
        "vision_model.embeddings.added_cls": (0.0, 1.0),
        "logit_scale": (4.6, 0.0),
        "text_model.final_layer_norm.weight": (1.0, 0.0),
        "vision_model.encoder.layers.0.self_attn.q_proj.bias": (0.0, 0.0),
        "vision_model.encoder.layers.1.mlp.fc1.weight": (0.0, 128**-0.5),
        "visual_projection.weight": (0.0, 64**-0.5),
        "text_model.embeddings.token_embedding.weight": (0.0, 0.02),
    }
    for name, (mean, std) in documented.items():
        save_file({key: value for key, value in weights.items() if key != name}, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            AutoModel.from_pretrained(tmp_path)
        model, info = CLIPViPModel.from_pretrained(tmp_path, output_loading_info=True)
        assert set(info["missing_keys"]) == {name}
        parameter = model.get_parameter(name).detach()
        assert parameter.isfinite().all()
        assert abs(parameter.mean().item() - mean) <= 0.15 * max(std, 1e-6) + 1e-6, name
        assert abs(parameter.std(unbiased=False).item() - std) <= 0.15 * std + 1e-6, name
        for other, value in weights.items():
            if other != name:
                assert torch.equal(model.get_parameter(other), value), f"{other} was overwritten"


def test_initial_weights_of_a_new_model():
    torch.manual_seed(0)
    model = CLIPViPModel(
        type(tiny_config())(vision_config={"num_hidden_layers": 1}, text_config={"num_hidden_layers": 1})
    )
    documented = {  # clip_vip §2, widths 768 and 512, one block
        "vision_model.embeddings.class_embedding": 768**-0.5,
        "vision_model.embeddings.added_cls": 1.0,
        "vision_model.embeddings.temporal_embedding": 0.0,
        "vision_model.embeddings.patch_embedding.weight": 0.02,
        "vision_model.embeddings.position_embedding.weight": 0.02,
        "vision_model.encoder.layers.0.self_attn.q_proj.weight": 768**-0.5 * 2**-0.5,
        "vision_model.encoder.layers.0.self_attn.out_proj.weight": 768**-0.5,
        "vision_model.encoder.layers.0.mlp.fc1.weight": (2 * 768) ** -0.5,
        "vision_model.encoder.layers.0.mlp.fc2.weight": 768**-0.5 * 2**-0.5,
        "vision_model.encoder.layers.0.mlp.fc2.bias": 0.0,
        "text_model.embeddings.token_embedding.weight": 0.02,
        "text_model.embeddings.position_embedding.weight": 0.02,
        "text_model.encoder.layers.0.mlp.fc1.weight": (2 * 512) ** -0.5,
        "text_projection.weight": 512**-0.5,
        "visual_projection.weight": 768**-0.5,
    }
    for name, std in documented.items():
        assert model.get_parameter(name).std().item() == pytest.approx(std, rel=0.08), name
    assert model.logit_scale.item() == pytest.approx(4.6)


def test_a_reshaped_weight_is_an_error(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["vision_model.embeddings.added_cls"] = torch.zeros(5, 64)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=r"(?s)added_cls|mismatch"):
        AutoModel.from_pretrained(tmp_path)


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        model = CLIPViPModel(tiny_config())
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not list(model.buffers())


def test_size_of_the_released_models():
    for patch_size, parameters in ((32, 151_288_833), (16, 149_632_257)):
        with torch.device("meta"):
            model = CLIPViPModel(type(tiny_config())(vision_config={"patch_size": patch_size}))
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters  # clip_vip §1
        assert len(model.state_dict()) == 400  # 402 entries less two integer buffers


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(reentrant):
    model, inputs = tiny_model().train(), tiny_inputs()
    plain = gradients(model, inputs)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for name, gradient in gradients(model, inputs).items():
        assert torch.equal(gradient, plain[name]), name


def test_compiles_without_graph_break():
    model, inputs = tiny_model(), tiny_inputs()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    masked = {**inputs, "video_attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])}
    with torch.no_grad():
        for kwargs in (inputs, masked):
            torch.testing.assert_close(compiled(**kwargs).logits_per_text, model(**kwargs).logits_per_text, **CLOSE)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("first", [0, 1])
def test_neighbouring_modules_on_different_gpus(fusion, first):
    """As `device_map` may place them. Fake tensors have a device and no memory: no GPU is needed."""

    def place(module, number):
        if list(module.children()) and type(module).__name__ not in model._no_split_modules:
            for child in module.children():
                number = place(child, number)
            return number
        device = torch.device("cuda", number % 2)
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                setattr(part, name, torch.nn.Parameter(parameter.to(device)))
        add_hook_to_module(module, AlignDevicesHook(device, place_submodules=False))
        return number + 1

    with FakeTensorMode() as mode, torch.no_grad():
        with torch.device("cuda:0"):
            model = CLIPViPModel(tiny_config(frame_fusion=fusion)).eval()
        place(model, first)
        masks = {"video_attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])}
        inputs = {name: mode.from_tensor(value).to("cuda:0") for name, value in tiny_inputs().items()}
        for mask in ({}, {name: mask.to("cuda:0") for name, mask in masks.items()}):
            assert model(**inputs, **mask).logits_per_text.shape == (2, 2)


def test_towers_export_with_dynamic_batch():
    model, inputs, many = tiny_model(), tiny_inputs(), tiny_inputs(batch=5)
    batch = torch.export.Dim("batch", min=1, max=64)
    video = CLIPViPVisionModelWithProjection(model.config.vision_config).eval()
    text = CLIPViPTextModelWithProjection(model.config.text_config).eval()
    for tower, names in ((video, ["pixel_values_videos"]), (text, ["input_ids", "attention_mask"])):
        program = torch.export.export(
            tower,
            (),
            {name: inputs[name] for name in names},
            dynamic_shapes={name: {0: batch} for name in names},
            strict=False,
        )
        kwargs = {name: many[name] for name in names}
        torch.testing.assert_close(program.module()(**kwargs)[0], tower(**kwargs)[0], **CLOSE)


def test_bfloat16_is_finite_and_close():
    model, inputs = tiny_model(), tiny_inputs()
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        expected, output = model(**inputs), half(**inputs)
    assert output.video_embeds.dtype == torch.bfloat16 and output.logits_per_text.isfinite().all()
    torch.testing.assert_close(output.video_embeds.float(), expected.video_embeds, atol=0.02, rtol=0)
    torch.testing.assert_close(output.text_embeds.float(), expected.text_embeds, atol=0.02, rtol=0)


def test_device_map_with_offloading_to_disk(tmp_path):
    model, inputs = tiny_model(), tiny_inputs()
    model.save_pretrained(tmp_path / "model")
    device_map = {
        "text_model": "cpu",
        "text_projection": "cpu",
        "visual_projection": "cpu",
        "logit_scale": "cpu",
        "vision_model.embeddings": "disk",
        "vision_model.pre_layrnorm": "cpu",
        "vision_model.encoder": "disk",
        "vision_model.post_layernorm": "cpu",
    }
    offloaded = AutoModel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    assert offloaded.vision_model.embeddings.added_cls.is_meta
    with torch.no_grad():
        torch.testing.assert_close(offloaded(**inputs).logits_per_text, model(**inputs).logits_per_text, **CLOSE)
    automatic = AutoModel.from_pretrained(tmp_path / "model", device_map="auto")
    with torch.no_grad():
        torch.testing.assert_close(
            automatic(**{key: value.to(automatic.device) for key, value in inputs.items()}).logits_per_text.cpu(),
            model(**inputs).logits_per_text,
            **CLOSE,
        )


def test_lora_trains_saves_and_reloads(tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    inputs = tiny_inputs()
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    before = model(**inputs).logits_per_text.detach()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step leaves the gradient of one of the two factors at zero
        optimizer.zero_grad()
        model(**inputs, return_loss=True).loss.backward()
        optimizer.step()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert trained and all("lora_" in name for name in trained)
    after = model(**inputs).logits_per_text.detach()
    assert not torch.allclose(before, after)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits_per_text.detach(), after, **CLOSE)


@pytest.mark.parametrize(
    ("dtype", "close"),
    [
        (torch.float64, {"atol": 1e-14, "rtol": 1e-14}),
        (torch.float32, {"atol": 1e-6, "rtol": 1e-6}),
        (torch.bfloat16, {"atol": 1e-2, "rtol": 2e-2}),
    ],
)
def test_quick_gelu_and_its_gradient_equal_the_formula(dtype, close):
    x = torch.linspace(-12, 12, 1001, dtype=torch.float64)
    gradient = torch.cos(3 * x)  # as if from above
    formula = x.clone().requires_grad_()
    expected = formula * torch.sigmoid(1.702 * formula)
    expected.backward(gradient)
    ours = x.to(dtype).requires_grad_()
    output = QuickGELU()(ours)
    output.backward(gradient.to(dtype))
    assert output.dtype == dtype and torch.equal(ours.detach(), x.to(dtype))
    torch.testing.assert_close(output.double(), expected, **close)
    torch.testing.assert_close(ours.grad.double(), formula.grad, **close)


def test_quick_gelu_has_second_derivatives_and_maps_over_a_batch():
    x = torch.linspace(-3, 3, 12, dtype=torch.float64).view(3, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(QuickGELU(), x)
    per_row = torch.func.vmap(torch.func.grad(lambda row: QuickGELU()(row).sum()))(x.detach())
    torch.testing.assert_close(per_row, torch.autograd.grad(QuickGELU()(x).sum(), x)[0])


class QuickGELUAsWritten(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


def test_gradients_of_gradients_equal_those_of_the_formula():
    model, pixels = tiny_model().double(), tiny_inputs()["pixel_values_videos"].double()
    model.set_attn_implementation("eager")  # the fused kernels have no second derivative
    weight = model.vision_model.encoder.layers[0].mlp.fc1.weight

    def penalty_gradient():
        embedding = model(pixel_values_videos=pixels).video_embeds
        (first,) = torch.autograd.grad(embedding.sum(), weight, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    ours = penalty_gradient()
    for layer in model.vision_model.encoder.layers:
        assert isinstance(layer.mlp.activation_fn, QuickGELU)
        layer.mlp.activation_fn = QuickGELUAsWritten()
    expected = penalty_gradient()
    torch.testing.assert_close(ours, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-4)


@pytest.mark.parametrize("grad", [True, False])
def test_hooks_see_what_the_layers_made(grad):
    model, inputs = tiny_model(), tiny_inputs()
    mlp = model.vision_model.encoder.layers[0].mlp
    seen, gradients_seen = {}, {}
    for name in ("fc1", "activation_fn", "fc2"):
        module = mlp.get_submodule(name)
        module.register_forward_hook(lambda _, args, out, name=name: seen.update({name: (args[0], out)}))
        module.register_full_backward_hook(lambda _, i, o, name=name: gradients_seen.update({name: o[0]}))
    with torch.set_grad_enabled(grad):
        loss = model(**inputs, return_loss=True).loss
    # Looked at after the pass: what a hook kept must not have been written over.
    (x, inner), (activation_input, activated), (fc2_input, output) = (
        seen[name] for name in ("fc1", "activation_fn", "fc2")
    )
    expected = x @ mlp.fc1.weight.T + mlp.fc1.bias
    torch.testing.assert_close(inner, expected, **CLOSE)
    torch.testing.assert_close(activation_input, expected, **CLOSE)
    torch.testing.assert_close(activated, expected * torch.sigmoid(1.702 * expected), **CLOSE)
    torch.testing.assert_close(output, fc2_input @ mlp.fc2.weight.T + mlp.fc2.bias, **CLOSE)
    if grad:
        loss.backward()
        assert {name: tuple(value.shape) for name, value in gradients_seen.items()} == {
            name: tuple(out.shape) for name, (_, out) in seen.items()
        }


class FrozenHalfPrecisionLinear(torch.nn.Module):
    """Stands for a quantised layer: no `weight` parameter, its own arithmetic."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("packed", linear.weight.detach().to(torch.bfloat16))
        self.register_buffer("offset", linear.bias.detach())

    def forward(self, x):
        return torch.nn.functional.linear(x, self.packed.to(x.dtype), self.offset)


@pytest.mark.parametrize("names", [["fc1", "fc2"], ["q_proj", "k_proj", "v_proj", "out_proj"]])
def test_every_linear_layer_may_be_replaced(names):
    replaced, rounded, inputs = tiny_model(), tiny_model(), tiny_inputs()
    for model in (replaced, rounded):
        for layer in model.vision_model.encoder.layers:
            for name in names:
                parent = layer.mlp if name.startswith("fc") else layer.self_attn
                linear = parent.get_submodule(name)
                if model is rounded:
                    linear.weight.data = linear.weight.data.to(torch.bfloat16).float()
                else:
                    setattr(parent, name, FrozenHalfPrecisionLinear(linear))
    expected, output = rounded(**inputs, return_loss=True), replaced(**inputs, return_loss=True)
    torch.testing.assert_close(output.video_embeds, expected.video_embeds, **CLOSE)
    expected.loss.backward()
    output.loss.backward()
    for name, parameter in replaced.named_parameters():
        torch.testing.assert_close(parameter.grad, rounded.get_parameter(name).grad, atol=1e-5, rtol=1e-4)


def test_lora_on_every_linear_layer_merges_to_the_same_features():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    inputs, targets = tiny_inputs(), ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    model = get_peft_model(tiny_model(), config).eval()
    with torch.no_grad():
        adapted = model(**inputs).logits_per_text
        assert not torch.allclose(adapted, tiny_model()(**inputs).logits_per_text, atol=1e-2)
        merged = model.merge_and_unload()(**inputs).logits_per_text
    torch.testing.assert_close(merged, adapted, atol=1e-3, rtol=1e-4)


def test_backward_keeps_no_more_than_it_needs():
    """Elements that autograd keeps for one block, in units of [B, S, D]: a guard of the memory that training takes."""
    model, pixels = tiny_model(), tiny_inputs(batch=3)["pixel_values_videos"]
    layer, tokens = model.vision_model.encoder.layers[0], 4 + 4 * 16
    mask = model.vision_model._key_mask(None, pixels)
    hidden, kept = torch.randn(3, tokens, 64, requires_grad=True), {}
    parameters = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes() / tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layer(hidden, mask, False, 4)
    # Block input, norm, q, attended, sum, norm; k and v with the proxies repeated in each of four frames; two in the
    # MLP, of twice the width here. Little else.
    needed = 6 + 2 * (4 * 20 / 68) + 2 * 2
    assert sum(kept.values()) / hidden.numel() == pytest.approx(needed, rel=0.05)
    output.sum().backward()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_overfits_one_batch(fusion):
    torch.manual_seed(0)
    model, inputs = tiny_model(frame_fusion=fusion).train(), tiny_inputs(batch=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(**inputs, return_loss=True).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10, losses


def test_resized_vocabulary_keeps_what_was_known():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        before = model.get_text_features(inputs["input_ids"]).last_hidden_state
        model.resize_token_embeddings(600)
        assert model.config.text_config.vocab_size == 600
        after = model.get_text_features(inputs["input_ids"]).last_hidden_state
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"pixel_values_videos": torch.zeros(1, 4, 3, 48, 48)}, r"\(1, 4, 3, 48, 48\).*3, 32, 32"),
        ({"pixel_values_videos": torch.zeros(2, 3, 32, 32)}, r"\(2, 3, 32, 32\).*image\[:, None\]"),
        ({"pixel_values_videos": torch.zeros(2, 4, 1, 32, 32)}, r"\(2, 4, 1, 32, 32\)"),
        (
            {"pixel_values_videos": torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8)},
            r"torch\.uint8.*processor",
        ),
        (
            {"pixel_values_videos": torch.zeros(2, 4, 3, 32, 32), "video_attention_mask": torch.ones(2, 5)},
            r"\(2, 5\).*\(2, 4\)",
        ),
        ({"input_ids": torch.zeros(1, 78, dtype=torch.long)}, "78 tokens.*77.*max_length=77"),
        ({}, "give text, video or both"),
        ({"input_ids": torch.zeros(2, 5, dtype=torch.long), "return_loss": True}, "as many texts as videos"),
    ],
)
def test_wrong_inputs_say_what_was_expected(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


def test_a_clip_longer_than_the_sequence_transformer_has_positions():
    model = tiny_model(frame_fusion="sequence_transformer", max_sequence_frames=4)
    with pytest.raises(ValueError, match="5 frames.*4"):
        model(pixel_values_videos=tiny_inputs(frames=5)["pixel_values_videos"])


def test_a_folder_without_weights_is_an_error(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModel.from_pretrained(tmp_path)
