"""ClipBERT's model against literal values and a plain twin, and the checks that every family's model passes."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMultipleChoice, AutoModelForPreTraining, AutoModelForVisualQuestionAnswering

from hf_videolang.hub.heads import with_retrieval_head
from hf_videolang.hub.question_heads import with_new_head
from hf_videolang.models.clipbert.configuration_clipbert import ClipBertConfig
from hf_videolang.models.clipbert.modeling_clipbert import (
    ClipBertForMultipleChoice,
    ClipBertForPreTraining,
    ClipBertForVideoTextRetrieval,
    ClipBertForVisualQuestionAnswering,
    ClipBertModel,
)
from tests.common.model_checks import (
    CLOSE,
    MODEL_CHECKS,
    TinyModel,
    assert_close,
    check_gradient_checkpointing,
    check_missing_weights,
    check_padding,
    check_saving_and_loading,
)
from tests.common.tiny.clipbert import tiny_config, tiny_inputs, tiny_model
from tests.models.clipbert.plain_twin import plain_logits


def with_options(inputs):
    """Questions with three options each; the last question has two."""
    ids, mask = (
        torch.stack([inputs[name], inputs[name].roll(1, 0), inputs[name]], 1)
        for name in ("input_ids", "attention_mask")
    )
    mask[-1, -1] = 0
    return {**inputs, "input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(
    "check",
    sorted({*MODEL_CHECKS} - {check_missing_weights, check_gradient_checkpointing}, key=str),
    ids=lambda check: check.__name__,
)
def test_model(check, tmp_path):
    tiny = TinyModel(tiny_model, tiny_inputs(batch=3), ("logits",), {"labels": torch.tensor([1, 0, 1])})
    check(tiny, tmp_path)


@pytest.mark.parametrize(
    ("model_class", "outputs", "check"),
    [
        *product([ClipBertForVisualQuestionAnswering], [("logits",)], [check_saving_and_loading, check_padding]),
        *product([ClipBertForPreTraining], [("matching_logits",)], [check_saving_and_loading, check_padding]),
        (ClipBertForMultipleChoice, ("logits",), check_saving_and_loading),
        *product([ClipBertModel], [("last_hidden_state",)], [check_saving_and_loading, check_missing_weights]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_heads(model_class, outputs, check, tmp_path):
    inputs = tiny_inputs()
    if model_class is ClipBertForMultipleChoice:
        inputs = with_options(inputs)
    check(TinyModel(lambda: tiny_model(model_class), inputs, outputs), tmp_path)


@pytest.mark.parametrize(
    ("fusion", "aggregation"), [("mean", "logsumexp"), ("conv3d", "mean"), ("conv2plus1d", "max")]
)
def test_logits_and_gradients_equal_those_of_a_plain_twin(fusion, aggregation):
    """The twin runs clip by clip and text by text, with functions of torch alone."""
    model = tiny_model(
        ClipBertForVisualQuestionAnswering, num_labels=5, score_aggregation=aggregation, temporal_fusion=fusion
    )
    model.double()
    inputs = tiny_inputs()
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].double()
    labels, index = torch.tensor([3, 0, 4]), torch.tensor([1, 0, 1])
    texts = {name: inputs[name][[0, 1, 1]] for name in ("input_ids", "attention_mask")}
    output = model(**texts, pixel_values_videos=inputs["pixel_values_videos"], video_index=index, labels=labels)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}

    weights = {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in model.state_dict().items()
    }
    clip_logits = plain_logits(weights, model.config, **texts, pixels=inputs["pixel_values_videos"][index])
    torch.testing.assert_close(output.clip_logits, clip_logits)
    pooled = {"mean": clip_logits.mean(0), "max": clip_logits.max(0).values, "logsumexp": clip_logits.logsumexp(0)}
    torch.testing.assert_close(output.logits, pooled[aggregation])
    cross_entropy(pooled[aggregation], labels).backward()
    for name, gradient in gradients.items():
        if gradient is None:
            assert ".stem." in name or ".res2." in name, name
        else:
            torch.testing.assert_close(gradient, weights[name].grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("frozen", [0, 2])
def test_activation_checkpointing_sees_one_clip_at_a_time(frozen):
    """So the sums of a gradient are taken in another order."""
    model, inputs, seen = tiny_model(num_frozen_stages=frozen), tiny_inputs(clips=3), []
    model.clipbert.cnn.backbone.stem.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    expected = gradients(model.train(), inputs)
    for reentrant in (True, False):
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        seen.clear()
        torch.testing.assert_close(gradients(model, inputs), expected, rtol=1e-5, atol=1e-6)
        # The frames of each of 6 clips, forward and, if the stem trains, again in the backward pass.
        assert seen == [2] * (6 if frozen else 12)


def gradients(model, inputs):
    model.zero_grad()
    model(**inputs, labels=torch.tensor([1, 0])).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_frozen_stages_do_not_train_after_loading(tmp_path):
    tiny_model(num_frozen_stages=3).save_pretrained(tmp_path)
    model = ClipBertForVideoTextRetrieval.from_pretrained(tmp_path)
    frozen = {name.split(".")[3] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"stem", "res2", "res3"}


@torch.no_grad()
def test_the_order_of_frames_and_clips_changes_nothing():
    model, inputs = tiny_model(), tiny_inputs(clips=3, frames=4)
    expected = model(**inputs)
    pixels = inputs["pixel_values_videos"]
    for changed in (pixels.flip(2), pixels[:, [2, 0, 1]]):
        torch.testing.assert_close(
            model(**{**inputs, "pixel_values_videos": changed}).logits, expected.logits, atol=1e-5, rtol=0
        )
    reversed_fusion = tiny_model(temporal_fusion="conv3d")
    assert not torch.allclose(
        reversed_fusion(**inputs).logits,
        reversed_fusion(**{**inputs, "pixel_values_videos": pixels.flip(2)}).logits,
        atol=1e-4,
    )


@torch.no_grad()
def test_video_embeds_take_the_place_of_pixels_and_several_texts_share_a_video():
    model, inputs = tiny_model(), tiny_inputs()
    calls = []
    model.clipbert.cnn.register_forward_hook(lambda *_: calls.append(1))
    expected = model(**inputs).logits
    video_embeds = model.get_video_features(inputs["pixel_values_videos"]).video_embeds
    texts = {name: inputs[name][[0, 1, 1, 0]] for name in ("input_ids", "attention_mask")}
    index = torch.tensor([0, 1, 0, 1])
    shared = model(**texts, video_embeds=video_embeds, video_index=index)
    assert len(calls) == 2
    torch.testing.assert_close(shared.logits[:2], expected, **CLOSE)
    only = model(**texts, video_embeds=video_embeds[:1])
    torch.testing.assert_close(shared.logits[[0, 2]], only.logits[:2], **CLOSE)
    one_clip = model(**{**inputs, "pixel_values_videos": inputs["pixel_values_videos"][:, 0]})
    torch.testing.assert_close(one_clip.logits, model(**inputs).clip_logits[0], **CLOSE)
    with pytest.raises(ValueError, match="4 texts and 2 videos; pass video_index"):
        model(**texts, video_embeds=video_embeds)
    with pytest.raises(ValueError, match="either pixel_values_videos or video_embeds"):
        model(**texts)
    with pytest.raises(ValueError, match=r"shape \(3, 128, 128\)"):
        model.get_video_features(inputs["pixel_values_videos"][0, 0, 0])


@torch.no_grad()
def test_absent_options_have_no_probability_and_change_nothing():
    model = tiny_model(ClipBertForMultipleChoice)
    inputs = with_options(tiny_inputs())
    output = model(**inputs, labels=torch.tensor([2, 0]))
    assert output.logits.softmax(-1)[1, 2] == 0 and output.clip_logits.softmax(-1)[:, 1, 2].sum() == 0
    last = {name: value[1:, :2] if name != "pixel_values_videos" else value[1:] for name, value in inputs.items()}
    torch.testing.assert_close(model(**last).logits, output.logits[1:, :2], **CLOSE)
    by_index = model(
        **{**inputs, "pixel_values_videos": inputs["pixel_values_videos"].flip(0)}, video_index=torch.tensor([1, 0])
    )
    torch.testing.assert_close(by_index.logits, output.logits, **CLOSE)
    torch.testing.assert_close(output.loss, cross_entropy(output.logits, torch.tensor([2, 0])))
    with pytest.raises(ValueError, match=r"choices=\[…\]"):
        model(**tiny_inputs())
    with pytest.raises(ValueError, match="Only a model for multiple choice takes options"):
        tiny_model()(**inputs)


def test_literal_losses():
    scores, index = torch.tensor([0.9, 0.8, 0.3, 0.5, 0.6]), torch.tensor([0, 0, 0, 1, 1])
    model = tiny_model(retrieval_loss="ranking")
    loss = model.ranking_loss(scores, torch.tensor([1, 0, 0, 1, 0]), index)
    torch.testing.assert_close(loss, torch.tensor((0.1 + 0.0 + 0.3) / 3))  # margin 0.2
    with pytest.raises(ValueError, match="a text of label 1 and one of label 0"):
        model.ranking_loss(scores, torch.ones(5), index)
    counts = ClipBertForVisualQuestionAnswering.counts(torch.tensor([[-3.0], [1.49], [1.5], [2.7], [30.0]]))
    assert counts.tolist() == [1, 1, 2, 3, 10]


def test_words_are_averaged_over_all_positions_and_losses_add_up():
    model, inputs = tiny_model(ClipBertForPreTraining), tiny_inputs()
    labels = torch.full((2, 10), -100)
    labels[0, 1], labels[1, 2] = 7, 9
    output = model(**inputs, labels=labels, matching_labels=torch.tensor([1, 0]))
    words = output.prediction_logits.log_softmax(-1)
    words = -(words[0, 1, 7] + words[1, 2, 9]) / 20
    matching = cross_entropy(output.matching_logits, torch.tensor([1, 0]))
    torch.testing.assert_close(output.loss, words + matching)
    torch.testing.assert_close(model(**inputs, labels=labels).loss, words)
    assert model(**inputs).loss is None


def test_training_keeps_some_visual_tokens_and_evaluation_all():
    model = tiny_model(ClipBertModel, pixel_random_sampling_size=3)
    pixels = tiny_inputs()["pixel_values_videos"]
    every = model.get_video_features(pixels).video_embeds
    np.random.seed(0)
    chosen = np.sort(np.random.choice(4, 3, replace=False))
    np.random.seed(0)
    kept = model.train().get_video_features(pixels).video_embeds
    torch.testing.assert_close(kept, every[:, :, chosen], **CLOSE)


def test_a_new_head_starts_random_and_the_rest_is_loaded(tmp_path):
    source = tiny_model(ClipBertForPreTraining)
    source.save_pretrained(tmp_path)
    for auto, model_class in (
        (AutoModelForVisualQuestionAnswering, ClipBertForVisualQuestionAnswering),
        (AutoModelForMultipleChoice, ClipBertForMultipleChoice),
        (AutoModelForPreTraining, ClipBertForPreTraining),
    ):
        model = auto.from_pretrained(tmp_path)
        assert type(model) is model_class
        shared = {name: value for name, value in source.state_dict().items() if name.startswith("clipbert.")}
        assert_close(
            {name: model.state_dict()[name] for name in shared},
            {n: v.float() for n, v in shared.items()},
            atol=0,
            rtol=0,
        )


def test_a_new_head_for_another_task_reads_all_visual_tokens():
    """Pre-training alone keeps some of them (clipbert §2, §9)."""
    source = tiny_model(ClipBertForPreTraining, pixel_random_sampling_size=3)
    for model in (
        with_new_head(source, "open", ["red", "blue"]),
        with_new_head(source, "multiple_choice"),
        with_retrieval_head(source),
    ):
        assert model.config.pixel_random_sampling_size == 0
    assert source.config.pixel_random_sampling_size == 3


def test_a_grid_larger_than_the_tables_is_refused():
    with pytest.raises(ValueError, match="grid of 6 x 2 cells, but the position tables have 5 rows"):
        tiny_model(ClipBertModel).get_video_features(torch.zeros(1, 1, 3, 384, 128))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_attention_heads": 5}, "multiple of the number of heads"),
        ({"retrieval_loss": "ranking", "score_aggregation": "logsumexp"}, "does not fit retrieval_loss='ranking'"),
        ({"score_aggregation": "lse"}, "score_aggregation"),
    ],
)
def test_impossible_configs_are_refused(options, message):
    with pytest.raises(Exception, match=message):
        tiny_config(**options)


def test_config_round_trip(tmp_path):
    config = tiny_config(num_labels=3, id2label={0: "lamp", 1: "girl", 2: "unused_2"})
    config.save_pretrained(tmp_path)
    loaded = ClipBertConfig.from_pretrained(tmp_path).to_dict()
    assert loaded == {**config.to_dict(), "transformers_version": loaded["transformers_version"]}
    assert loaded["id2label"] == {0: "lamp", 1: "girl", 2: "unused_2"}
