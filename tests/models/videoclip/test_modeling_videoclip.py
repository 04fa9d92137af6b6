"""VideoCLIP's model against the formulas of its specification, and the checks that every family's model passes."""

from itertools import product

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoModelForTokenClassification, BertConfig, BertModel

from hf_videolang.losses import contrastive_loss
from hf_videolang.models.videoclip.configuration_videoclip import VideoCLIPConfig, VideoCLIPVideoConfig
from hf_videolang.models.videoclip.modeling_videoclip import (
    VideoCLIPForTokenClassification,
    VideoCLIPModel,
    VideoCLIPTextModel,
    VideoCLIPVideoModel,
)
from tests.common import model_checks
from tests.common.model_checks import CLOSE, MODEL_CHECKS, TinyModel
from tests.common.tiny import s3d
from tests.common.tiny.videoclip import SECONDS, tiny_config, tiny_inputs, tiny_model

ENCODERS = ["separate", "shared", "isolated"]
PIXELS = {"pixel_values_videos": s3d.tiny_inputs()["pixel_values_videos"]}


@pytest.mark.parametrize(
    ("encoder", "check"),
    [("separate", check) for check in MODEL_CHECKS]
    + list(product(ENCODERS[1:], [model_checks.check_saving_and_loading, model_checks.check_padding])),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_model(encoder, check, tmp_path):
    check(TinyModel(lambda: tiny_model(encoder), tiny_inputs(), ("text_embeds", "video_embeds")), tmp_path)


@pytest.mark.parametrize(
    "check", [model_checks.check_saving_and_loading, model_checks.check_padding, model_checks.check_overfitting]
)
def test_head(check, tmp_path):
    inputs = {name: value for name, value in tiny_inputs().items() if name.startswith("video")}
    labels = {"labels": torch.where(inputs["video_attention_mask"] == 1, torch.arange(5) % 3, -100)}
    outputs = () if check is model_checks.check_padding else ("logits",)  # rows of padding have logits, too
    check(TinyModel(lambda: tiny_model(head=True, num_labels=3), inputs, outputs, labels), tmp_path)


def reference_text(model, ids):
    """One text, by the words of videoclip §3.3, §3.4 and §3.6."""
    one, isolated = model.config.encoder != "separate", model.config.encoder == "isolated"
    bert = model.video_model.bert if one else model.text_model.bert
    start = SECONDS + 2 if one else 1
    positions = torch.tensor([[0, *range(start, start + len(ids) - 1)]])
    types = torch.tensor([[0] + [int(one)] * (len(ids) - 1)])
    mask = torch.tensor([[int(not isolated)] + [1] * (len(ids) - 1)])
    states = bert(ids[None], mask, types, positions).last_hidden_state[0]
    return states[1:].mean(dim=0)


def reference_video(model, rows, attend_to_cls=True):
    """One video, by the words of videoclip §3.1, §3.2, §3.4 and §3.6."""
    bert, projector = model.video_model.bert, model.video_model.projector
    hidden = torch.nn.functional.gelu(rows @ projector.linear1.weight.T + projector.linear1.bias)
    hidden = torch.nn.functional.layer_norm(hidden, (48,), projector.LayerNorm.weight, projector.LayerNorm.bias, 1e-5)
    hidden = hidden @ projector.linear2.weight.T + projector.linear2.bias
    words = bert.embeddings.word_embeddings.weight
    embeds = torch.cat([words[2:3], hidden, words[3:4]])[None]
    positions = torch.tensor([[*range(len(rows) + 1), SECONDS + 1]])
    mask = torch.tensor([[int(attend_to_cls and model.config.encoder != "isolated")] + [1] * (len(rows) + 1)])
    states = bert(inputs_embeds=embeds, attention_mask=mask, position_ids=positions).last_hidden_state[0]
    return states[1:].mean(dim=0), states


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_towers_follow_the_specification(encoder):
    model, inputs = tiny_model(encoder), tiny_inputs()
    output = model(**inputs)
    hidden_cls = model.get_video_features(
        video_features=inputs["video_features"],
        video_attention_mask=inputs["video_attention_mask"],
        attend_to_cls=False,
    )
    for row in range(3):
        text = inputs["input_ids"][row, inputs["attention_mask"][row].bool()]
        video = inputs["video_features"][row, inputs["video_attention_mask"][row].bool()]
        torch.testing.assert_close(output.text_embeds[row], reference_text(model, text), **CLOSE)
        pooled, states = reference_video(model, video)
        torch.testing.assert_close(output.video_embeds[row], pooled, **CLOSE)
        seconds = output.video_model_output.last_hidden_state[row, 1:-1][: len(video)]
        torch.testing.assert_close(seconds, states[1:-1], **CLOSE)
        pooled, _ = reference_video(model, video, attend_to_cls=False)
        torch.testing.assert_close(hidden_cls.pooler_output[row], pooled, **CLOSE)
    torch.testing.assert_close(output.logits_per_video, output.video_embeds @ output.text_embeds.T)


def test_one_encoder_is_there_once():
    model = tiny_model("shared")
    assert model.text_model is None
    assert model.config.text_config.num_hidden_layers == model.config.video_config.num_hidden_layers == 2
    assert model.get_input_embeddings() is model.video_model.bert.embeddings.word_embeddings


def test_loss_is_the_sum_of_both_directions():
    model, inputs = tiny_model(), tiny_inputs()
    output = model(**inputs, return_loss=True)
    pairs = torch.arange(3)
    both = cross_entropy(output.logits_per_text, pairs) + cross_entropy(output.logits_per_video, pairs)
    torch.testing.assert_close(output.loss, both)
    torch.testing.assert_close(output.loss, contrastive_loss(output.video_embeds, output.text_embeds, 0.0))
    with pytest.raises(ValueError, match=r"got \(2, 3\)"):
        model(**{**inputs, "input_ids": inputs["input_ids"][:2], "attention_mask": None}, return_loss=True)


def test_the_head_reads_the_states_of_the_seconds_without_cls():
    model = tiny_model(head=True, num_labels=3)
    rows = tiny_inputs()["video_features"]
    labels = torch.tensor([[0, 1, 2, -100, -100]] * 3)
    output = model(rows, labels=labels)
    states = model.get_video_features(video_features=rows, attend_to_cls=False).last_hidden_state[:, 1:-1]
    torch.testing.assert_close(output.logits, states @ model.classifier.weight.T + model.classifier.bias, **CLOSE)
    torch.testing.assert_close(output.loss, cross_entropy(output.logits[:, :3].flatten(0, 1), labels[:, :3].flatten()))
    output.loss.backward()
    without_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without_gradient == {f"text_model.{name}" for name, _ in model.text_model.named_parameters()}
    assert not any(parameter.requires_grad for parameter in model.text_model.parameters())


def test_towers_and_head_load_from_the_whole_model(tmp_path, capfd, caplog):
    model, inputs = tiny_model(with_s3d=True), tiny_inputs()
    model.save_pretrained(tmp_path)
    text = VideoCLIPTextModel.from_pretrained(tmp_path)
    video = VideoCLIPVideoModel.from_pretrained(tmp_path)
    expected = model(**inputs)
    assert torch.equal(text(inputs["input_ids"], inputs["attention_mask"]).pooler_output, expected.text_embeds)
    rows = inputs["video_features"], inputs["video_attention_mask"]
    assert torch.equal(video(*rows).pooler_output, expected.video_embeds)
    assert "UNEXPECTED" not in capfd.readouterr().err.upper()

    head = AutoModelForTokenClassification.from_pretrained(tmp_path, num_labels=4)
    assert type(head) is VideoCLIPForTokenClassification and head.classifier.out_features == 4
    assert "classifier.weight | MISSING" in caplog.text  # transformers' own warning
    states = model.get_video_features(None, rows[1], rows[0], attend_to_cls=False).last_hidden_state[:, 1:-1]
    torch.testing.assert_close(head(*rows).logits, head.classifier(states), **CLOSE)
    head.save_pretrained(tmp_path / "head")
    again = AutoModelForTokenClassification.from_pretrained(tmp_path / "head")
    assert torch.equal(again(*rows).logits, head(*rows).logits)
    assert torch.equal(
        AutoModel.from_pretrained(tmp_path / "head")(**inputs).logits_per_text, expected.logits_per_text
    )


def test_a_tower_of_one_shared_encoder_is_not_left_random(tmp_path):
    tiny_model("isolated").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks .* weights of VideoCLIPTextModel"):
        VideoCLIPTextModel.from_pretrained(tmp_path)
    assert VideoCLIPVideoModel.from_pretrained(tmp_path).config.attend_to_cls is False


@torch.no_grad()
def test_pixels_become_unit_rows_of_the_s3d_inside():
    model, mask = tiny_model(with_s3d=True), torch.tensor([[1, 1, 1], [1, 0, 0]])
    rows = model.s3d(PIXELS["pixel_values_videos"], mask).video_features
    for normalized in (True, False):
        model.config.normalize_features = normalized  # read at each call
        given = normalize(rows, dim=-1) if normalized else rows
        expected = model.get_video_features(video_features=given, video_attention_mask=mask).pooler_output
        found = model.get_video_features(**PIXELS, video_attention_mask=mask).pooler_output
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_the_s3d_inside_stays_as_it_is(tmp_path):
    tiny_model(with_s3d=True).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path).train()
    before = {name: value.clone() for name, value in model.s3d.state_dict().items()}
    texts = {name: value[:2] for name, value in tiny_inputs().items() if not name.startswith("video")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(**texts, **PIXELS, return_loss=True).loss.backward()
    optimizer.step()
    assert not model.s3d.training and model.video_model.training
    assert not any(parameter.requires_grad for parameter in model.s3d.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.s3d.state_dict().items())


@torch.no_grad()
def test_rows_of_the_s3d_inside_do_not_depend_on_the_batch():
    model = tiny_model(with_s3d=True)
    together = model.s3d(PIXELS["pixel_values_videos"]).video_features
    alone = torch.cat([model.s3d(pixels[None]).video_features for pixels in PIXELS["pixel_values_videos"]])
    torch.testing.assert_close(together, alone, **CLOSE)


def test_parameters_of_the_released_models():
    sizes = {}
    for encoder, layers in (("separate", 6), ("isolated", 12)):
        with torch.device("meta"):
            model = VideoCLIPModel(VideoCLIPConfig(encoder=encoder, video_config={"num_hidden_layers": layers}))
        sizes[encoder] = sum(parameter.numel() for parameter in model.parameters())
    poolers = 2 * (768 * 768 + 768)
    assert sizes["separate"] == 177_423_360 - poolers  # videoclip §1
    vlm_only = 768 * 768 + 768 + 256 * 768 + 768 * 768 + 768 + 2 * 768  # pooler, segments, head for masked words
    assert sizes["isolated"] == 111_257_088 - vlm_only


def test_fields_of_bert_are_those_of_transformers():
    assert VideoCLIPVideoConfig().to_dict().items() >= {"layer_norm_eps": 1e-12, "hidden_act": "gelu"}.items()
    config = tiny_config()
    text = BertModel(BertConfig(**{name: getattr(config.text_config, name) for name in BertConfig.__annotations__}))
    with torch.no_grad():
        model = tiny_model()
        text.load_state_dict(model.text_model.bert.state_dict(), strict=False)
        ids = tiny_inputs()["input_ids"]
        torch.testing.assert_close(
            text.eval()(ids).last_hidden_state, model.get_text_features(ids).last_hidden_state, **CLOSE
        )


ROWS = torch.zeros(2, 3, 16)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "pass text, video or both"),
        ({"video_features": ROWS, **PIXELS}, "Both of video_features and pixel_values_videos"),
        (PIXELS, "holds no S3D. Pass video_features .*, or convert .* --s3d"),
        ({"video_features": torch.zeros(2, 3, 512)}, r"video_features is \(2, 3, 512\); expected .*16\]"),
        ({"video_features": torch.zeros(2, 7, 16)}, r"\(2, 7, 16\); expected \[batch, 1 to 6 seconds"),
        ({"video_features": torch.zeros(2, 16)}, r"\(2, 16\)"),
        ({"video_features": ROWS, "video_attention_mask": torch.ones(2, 4)}, r"\(2, 4\); expected .* \(2, 3\)"),
        ({"input_ids": torch.zeros(1, 40, dtype=torch.long)}, "40 tokens .* 32; .*max_length=32"),
    ],
)
def test_wrong_input_is_told(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s3d_config": {}, "video_config": {"feature_size": 16}}, "projection_dim is 512 and .*feature_size is 16"),
        ({"video_config": {"hidden_size": 96}}, "hidden_size is 96 .* 768; the towers must be equally wide"),
        ({"video_config": {"max_video_length": 511}}, "max_video_length is 511"),
        ({"encoder": "joint"}, "encoder"),
    ],
)
def test_a_config_that_fits_no_model_is_refused(options, message):
    with pytest.raises(Exception, match=message):
        VideoCLIPConfig(**options)
