"""S3D against the operations of its specification, and the checks of every family that concern it."""

import pytest
import torch
from torch.nn import functional as F

from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DMaxPool, S3DVideoModel
from tests.common import model_checks
from tests.common.model_checks import CLOSE, TinyModel
from tests.common.tiny.s3d import SIDE, tiny_inputs, tiny_model
from tests.models.s3d.plain_twin import original_network, original_pool

CHECKS = [
    model_checks.check_saving_and_loading,
    model_checks.check_missing_weights,
    model_checks.check_meta_device,
    model_checks.check_bfloat16,
]


@pytest.mark.parametrize("check", CHECKS)
def test_model(check, tmp_path):
    check(TinyModel(tiny_model, tiny_inputs(), ("text_embeds", "video_embeds")), tmp_path)


@pytest.mark.parametrize("shape", [(4, 32, 32), (6, 44, 52), (30, 16, 16)], ids=str)
def test_network_equals_the_plain_operations(shape):
    model, clips = tiny_model().video_model, torch.rand(2, shape[0], 3, *shape[1:])
    expected = original_network(model, clips)
    torch.testing.assert_close(model.encode_clips(clips), expected, atol=1e-5, rtol=1e-4)
    with torch.no_grad():  # works in place where no gradient is needed
        torch.testing.assert_close(model.encode_clips(clips), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_training_mode_equals_the_plain_operations():
    model, plain = (tiny_model().video_model.double().train() for _ in range(2))
    clips = torch.rand(3, 8, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(model.encode_clips(clips), original_network(plain, clips, training=True))
    statistics = dict(plain.named_buffers())
    for name, value in model.named_buffers():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, statistics[name], msg=name)


def test_gradients_in_eval_mode_equal_those_of_the_plain_operations():
    model, clips = tiny_model().double().video_model, torch.rand(2, 4, 3, SIDE, SIDE, dtype=torch.float64)
    parameters = [parameter for name, parameter in model.named_parameters() if not name.startswith("fc.")]
    found = torch.autograd.grad(model.encode_clips(clips).square().sum(), parameters)
    expected = torch.autograd.grad(original_network(model, clips).square().sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (2, 2, 2)])
@pytest.mark.parametrize("size", [(3, 4, 5), (8, 7, 6), (1, 2, 1)])
def test_max_pool_pads_as_the_original(kernel, size):
    x, stride = torch.rand(1, 2, *size), (1 if kernel[0] == 1 else 2, 2, 2)
    assert torch.equal(S3DMaxPool(kernel, stride)(x), original_pool(x, kernel, stride))


@torch.no_grad()
def test_clips_are_rows_and_padding_is_not_computed():
    model, pixels = tiny_model().video_model, tiny_inputs(clips=3)["pixel_values_videos"]
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    output = model(pixels, mask)
    for video in range(2):
        for clip in range(3):
            frames = pixels[video : video + 1, 4 * clip : 4 * clip + 4] / 255
            row = original_network(model, frames)[0] * mask[video, clip]
            torch.testing.assert_close(output.last_hidden_state[video, clip], row, atol=1e-5, rtol=1e-4)
    assert not output.video_features[1, 1:].any()
    torch.testing.assert_close(output.video_features[0], model.fc(output.last_hidden_state[0]))
    torch.testing.assert_close(output.video_embeds[0], output.video_features[0].mean(dim=0))
    torch.testing.assert_close(output.video_embeds[1], output.video_features[1, 0])
    torch.testing.assert_close(model(pixels[1:, :4]).pooler_output, output.pooler_output[1:], **CLOSE)


@torch.no_grad()
def test_bytes_equal_floats_and_the_chunk_changes_nothing():
    model, pixels = tiny_model(), tiny_inputs(clips=5)["pixel_values_videos"]
    expected = model.video_model(pixels).video_features
    torch.testing.assert_close(model.video_model(pixels / 255).video_features, expected, **CLOSE)
    for model.config.clips_per_chunk in (1, 3, 100):
        torch.testing.assert_close(model.video_model(pixels).video_features, expected, **CLOSE)


def test_inference_leaves_the_parameters_alone():
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model(**tiny_inputs())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "video_model.conv1.bn1.num_batches_tracked" in before


@torch.no_grad()
def test_the_pair_compares_by_dot_product():
    model, inputs = tiny_model(), tiny_inputs()
    output = model(**inputs)
    words = model.text_model.word_embd.weight[inputs["input_ids"]]
    hidden = F.relu(words @ model.text_model.fc1.weight.T + model.text_model.fc1.bias)
    texts = hidden.max(dim=1).values @ model.text_model.fc2.weight.T + model.text_model.fc2.bias
    torch.testing.assert_close(output.text_embeds, texts, **CLOSE)
    torch.testing.assert_close(output.logits_per_video, output.video_embeds @ texts.T, **CLOSE)
    torch.testing.assert_close(output.logits_per_text, output.logits_per_video.T)
    assert torch.equal(model.get_video_features(inputs["pixel_values_videos"]).pooler_output, output.video_embeds)
    assert torch.equal(model.get_text_features(inputs["input_ids"]).pooler_output, output.text_embeds)


def test_the_video_network_loads_from_the_whole_model(tmp_path, capfd):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    video = S3DVideoModel.from_pretrained(tmp_path)
    pixels = tiny_inputs()["pixel_values_videos"]
    with torch.no_grad():
        assert torch.equal(video(pixels).video_embeds, model(pixel_values_videos=pixels).video_embeds)
    assert "UNEXPECTED" not in capfd.readouterr().err.upper()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "pass text, video or both"),
        ({"pixel_values_videos": torch.zeros(1, 6, 3, 32, 32)}, r"\(1, 6, 3, 32, 32\); expected .*clips \* 4 frames"),
        ({"pixel_values_videos": torch.zeros(1, 4, 3, 31, 32)}, r"even height and width"),
        ({"pixel_values_videos": torch.zeros(4, 3, 32, 32)}, r"\(4, 3, 32, 32\)"),
        (
            {"pixel_values_videos": torch.zeros(1, 8, 3, 32, 32), "video_attention_mask": torch.ones(1, 8)},
            r"\(1, 8\); expected .* \(1, 2\)",
        ),
        ({"input_ids": torch.zeros(1, 6, dtype=torch.long)}, "6 words .* reads 5; .*max_length=5"),
    ],
)
def test_wrong_input_is_told(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem_channels": [4]}, "expected 2"),
        ({"frames_per_clip": 5}, "frames_per_clip is 5; expected an even number"),
    ],
)
def test_a_config_that_fits_no_network_is_refused(options, message):
    with pytest.raises(Exception, match=message):
        S3DConfig(**options)
