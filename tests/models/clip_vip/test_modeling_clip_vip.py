"""CLIP-ViP's model against a dense twin and literal values, and the checks that every family's model passes."""

from itertools import product

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel

from hf_videolang.losses import contrastive_loss
from hf_videolang.models.clip_vip.modeling_clip_vip import (
    CLIPViPAttention,
    CLIPViPModel,
    CLIPViPTextModel,
    CLIPViPTextModelWithProjection,
    CLIPViPVisionModel,
    CLIPViPVisionModelWithProjection,
    QuickGELU,
)
from tests.common.model_checks import (
    CLOSE,
    MODEL_CHECKS,
    TinyModel,
    check_padding,
    check_saving_and_loading,
)
from tests.common.tiny.clip_vip import tiny_config, tiny_inputs, tiny_model, tiny_tokenizer
from tests.models.clip_vip.dense_reference import allowed, encode_one_clip

FUSIONS = ["proxy", "mean_pooling", "sequence_transformer", "full_attention"]


def gradients(model, inputs, **kwargs):
    model.zero_grad()
    model(**inputs, return_loss=True, **kwargs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def inputs_with_padding():
    """Of three clips, the first ends early and the last has padding at its start and inside."""
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1]])
    return {**tiny_inputs(batch=3, frames=6), "video_attention_mask": mask}


@pytest.mark.parametrize(
    ("fusion", "check"),
    [("proxy", check) for check in MODEL_CHECKS]
    + list(product(FUSIONS[1:], [check_saving_and_loading, check_padding])),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_model(fusion, check, tmp_path):
    tiny = TinyModel(lambda: tiny_model(frame_fusion=fusion), inputs_with_padding(), ("text_embeds", "video_embeds"))
    check(tiny, tmp_path)


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


def test_text_is_pooled_at_the_first_end_token_whatever_follows():
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
    # The maps made the output: rebuild block 0 from them.
    layer = model.vision_model.encoder.layers[0]
    values = layer.self_attn.v_proj(layer.layer_norm1(video.hidden_states[0])).unflatten(-1, (4, 16))
    attended = torch.einsum("bhqk,bkhd->bqhd", video.attentions[0], values).flatten(2)
    hidden = video.hidden_states[0] + layer.self_attn.out_proj(attended)
    hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    torch.testing.assert_close(hidden, video.hidden_states[1], atol=1e-5, rtol=1e-5)
    # Explanations by attention maps need gradients with respect to them.
    for gradient in torch.autograd.grad(output.logits_per_text[0, 0], (*video.attentions, *text.attentions)):
        assert gradient[0].any()


def test_every_attention_uses_the_implementation_that_was_set():
    model, inputs = tiny_model(frame_fusion="sequence_transformer"), tiny_inputs()
    attentions = [module for module in model.modules() if isinstance(module, CLIPViPAttention)]
    maps = []
    for module in attentions:
        module.register_forward_hook(lambda module, arguments, output: maps.append(output[1]))
    for implementation, has_maps in (("eager", True), ("sdpa", False)):
        model.set_attn_implementation(implementation)
        maps.clear()
        model(**inputs)
        assert [one is not None for one in maps] == [has_maps] * len(attentions)


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
    recipe_loss = contrastive_loss(output.video_embeds, output.text_embeds, model.logit_scale)
    torch.testing.assert_close(2 * output.loss, recipe_loss)  # the factor that the docstring states
    assert torch.equal(model(**inputs, return_dict=False)[0], output.logits_per_video)


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
        embeddings = model.text_model.embeddings.token_embedding, model.vision_model.embeddings.patch_embedding
        assert torch.equal(tower.get_input_embeddings().weight, embeddings["video" in tower.input_modalities].weight)
        tower.save_pretrained(tmp_path / tower_class.__name__)
        again = tower_class.from_pretrained(tmp_path / tower_class.__name__)
        assert torch.equal(again(**tower_inputs)[field], expected)
    assert "UNEXPECTED" not in capfd.readouterr().err.upper()


def test_a_missing_weight_takes_its_documented_value(tmp_path):
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
        model, info = CLIPViPModel.from_pretrained(tmp_path, output_loading_info=True)
        assert set(info["missing_keys"]) == {name}
        parameter = model.get_parameter(name).detach()
        assert parameter.isfinite().all()
        assert abs(parameter.mean().item() - mean) <= 0.15 * max(std, 1e-6) + 1e-6, name
        assert abs(parameter.std(unbiased=False).item() - std) <= 0.15 * std + 1e-6, name


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


def test_size_of_the_released_models():
    for patch_size, parameters in ((32, 151_288_833), (16, 149_632_257)):
        with torch.device("meta"):
            model = CLIPViPModel(type(tiny_config())(vision_config={"patch_size": patch_size}))
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters  # clip_vip §1
        assert len(model.state_dict()) == 400  # 402 entries less two integer buffers


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("first", [0, 1])
def test_neighbouring_modules_on_different_gpus(fusion, first):
    """As `device_map` may place them. Fake tensors have a device but no memory, so no GPU is needed."""

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
    # Compared after the pass: nothing may write over a tensor that a hook kept.
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


@pytest.mark.parametrize("hooked", ["fc1", "activation_fn"])
def test_inference_writes_over_no_tensor_that_a_hook_holds(hooked):
    model, inputs, held = tiny_model(), tiny_inputs(), []
    mlp = model.vision_model.encoder.layers[0].mlp
    mlp.register_forward_pre_hook(lambda _, arguments: held.append(arguments[0]))
    mlp.get_submodule(hooked).register_forward_hook(
        lambda _, arguments, output: held.append(output if hooked == "fc1" else arguments[0])
    )
    with torch.no_grad():
        model(**inputs)
    x, inner = held
    torch.testing.assert_close(inner, x @ mlp.fc1.weight.T + mlp.fc1.bias, **CLOSE)


def test_inference_gives_the_bits_of_training():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        output = model(**inputs)
    for name, value in model(**inputs).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(output[name], value), name


def test_patch_embedding_is_a_convolution():
    model, pixels = tiny_model(), tiny_inputs()["pixel_values_videos"].flatten(0, 1)
    embedding = model.vision_model.embeddings.patch_embedding
    assert isinstance(embedding, torch.nn.Conv2d) and [*embedding.state_dict()] == ["weight"]
    expected = torch.nn.functional.conv2d(pixels, embedding.weight, stride=embedding.stride)
    torch.testing.assert_close(embedding(pixels), expected, **CLOSE)


class FrozenHalfPrecisionLinear(torch.nn.Module):
    """Stands for a quantised layer, which has no `weight` parameter and its own arithmetic."""

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


def test_backward_keeps_no_more_than_it_needs():
    """Elements that autograd keeps for one block, in units of [B, S, D]. They set the memory that training takes."""
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
    # Block input, norm, q, attention output, sum, norm; k and v with the proxies repeated in each of four frames; two
    # tensors in the MLP, of twice the width here.
    needed = 6 + 2 * (4 * 20 / 68) + 2 * 2
    assert sum(kept.values()) / hidden.numel() == pytest.approx(needed, rel=0.05)
    output.sum().backward()


def test_resized_vocabulary_keeps_what_was_known():
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        before = model.get_text_features(inputs["input_ids"]).last_hidden_state
        model.resize_token_embeddings(600)
        assert model.config.text_config.vocab_size == 600
        after = model.get_text_features(inputs["input_ids"]).last_hidden_state
    assert torch.equal(before, after)


def test_texts_that_differ_after_an_added_token_have_different_features():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tokenizer.add_tokens(["<new>"])  # its id is larger than that of the end token
    model.resize_token_embeddings(len(tokenizer))
    with torch.no_grad():
        features = model.get_text_features(**tokenizer(["a <new> b", "a <new> c"], return_tensors="pt")).pooler_output
    assert not torch.allclose(features[0], features[1], atol=1e-2)


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
        ({}, "pass text, video or both"),
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
