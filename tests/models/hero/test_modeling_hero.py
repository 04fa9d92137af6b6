"""HERO's model against the words of its specification, and the checks that every family's model passes."""

import random

import pytest
import torch
from transformers import AutoModel, AutoModelForMultipleChoice, AutoModelForSequenceClassification

from hf_videolang.models.hero.configuration_hero import HeroConfig
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval, HeroModel
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice, HeroForSequenceClassification
from hf_videolang.models.hero.modeling_hero_encoders import pack_rows
from tests.common import model_checks
from tests.common.model_checks import CLOSE, MODEL_CHECKS, TinyModel
from tests.common.tiny.hero import (
    FEATURES,
    FRAMES,
    tiny_config,
    tiny_model,
    tiny_texts,
    tiny_videos,
)
from tests.models.hero.plain_twin import frame_states, temporal_states

HEADS = [HeroForVideoTextRetrieval, HeroForMultipleChoice, HeroForSequenceClassification]


def retrieval() -> TinyModel:
    spans = {"start_positions": torch.tensor([0, 2, -1]), "end_positions": torch.tensor([1, 3, -1])}
    inputs = {**tiny_videos(), **tiny_texts(3)}
    return TinyModel(
        lambda: tiny_model(span_drop_probability=0.0),
        inputs,
        ("text_embeds", "logits_per_text"),
        {**spans, "return_loss": True},
    )


def multiple_choice() -> TinyModel:
    labels = {
        "labels": torch.tensor([0, 2, 1]),
        "start_positions": torch.tensor([0, 1, -1]),
        "end_positions": torch.tensor([2, 2, -1]),
    }
    inputs = {**tiny_videos(), **tiny_texts(3, 4, start=2)}
    return TinyModel(lambda: tiny_model(HeroForMultipleChoice), inputs, ("logits",), labels)


def statements() -> TinyModel:
    inputs = {**tiny_videos(), **tiny_texts(3, start=2)}
    labels = {"labels": torch.tensor([0, 1, 1])}
    return TinyModel(lambda: tiny_model(HeroForSequenceClassification), inputs, ("logits",), labels)


# Rows of logits_per_text do not belong to one item, and frames have the padding of the batch: see below.
OWN_PADDING = model_checks.check_padding
CASES = [(retrieval, check) for check in MODEL_CHECKS if check is not OWN_PADDING]
CASES += [
    (make, getattr(model_checks, f"check_{name}"))
    for make in (multiple_choice, statements)
    for name in ("saving_and_loading", "missing_weights", "overfitting")
] + [(multiple_choice, model_checks.check_export)]


@pytest.mark.parametrize(("make", "check"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_model(make, check, tmp_path):
    check(make(), tmp_path)


def shown_frames(inputs: dict[str, torch.Tensor], video: int) -> tuple[torch.Tensor, list]:
    """Features without padding, and for each subtitle its tokens and frames."""
    features = inputs["video_features"][video, inputs["video_attention_mask"][video].bool()]
    rows = []
    for subtitle, ids in enumerate(inputs["subtitle_input_ids"][video]):
        frames = (inputs["frame_subtitles"][video] == subtitle).nonzero()[:, 0].tolist()
        rows.append((ids[inputs["subtitle_attention_mask"][video, subtitle].bool()].tolist(), frames))
    return features, rows


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_encoder_follows_the_specification(attention):
    model, inputs = tiny_model(HeroModel), tiny_videos()
    inputs["video_features"] = torch.where(  # what stands at padding does not matter
        inputs["video_attention_mask"][..., None] == 1, inputs["video_features"], torch.nan
    )
    model.set_attn_implementation(attention)
    output = model(**inputs)
    for video in range(3):
        features, rows = shown_frames(inputs, video)
        fused = frame_states(model, features, rows)
        torch.testing.assert_close(output.fused_frames[video, : len(features)], fused, **CLOSE)
        states = temporal_states(model, fused)
        torch.testing.assert_close(output.last_hidden_state[video, : len(features)], states, **CLOSE)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_a_text_follows_every_subtitle_and_the_frames(attention):
    model, inputs, texts = tiny_model(HeroModel), tiny_videos(), tiny_texts(3, 2, start=2)
    model.set_attn_implementation(attention)
    output = model(**inputs, **texts)
    for video in range(3):
        features, rows = shown_frames(inputs, video)
        for number in range(2):
            ids = texts["input_ids"][video, number, texts["attention_mask"][video, number].bool()].tolist()
            fused = frame_states(model, features, [(own + ids, frames) for own, frames in rows])
            states = temporal_states(model, fused, ids)
            found = output.last_hidden_state[video, number, : len(features)]
            torch.testing.assert_close(found, states, **CLOSE)


def test_rows_are_packed_without_loss():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 60, (900,), generator=generator)
    places, row_at = pack_rows(rows)
    assert len(set(places.tolist())) == len(rows) and row_at.shape == (8, 128)  # no fewer hold 900
    assert torch.equal(row_at.flatten()[places], rows)
    for row in range(60):
        own = places[rows == row]
        assert torch.equal(own, torch.arange(own[0], own[0] + len(own)))  # together, in their order
        assert own[0] // 128 == own[-1] // 128
    assert pack_rows(rows[:0])[1].tolist() == [[-1]]


@torch.no_grad()
def test_a_subtitle_without_frames_changes_nothing():
    model, inputs = tiny_model(HeroModel), tiny_videos()
    inputs["frame_subtitles"][inputs["frame_subtitles"] == 1] = -1
    expected = model(**inputs).last_hidden_state
    inputs["subtitle_input_ids"][:, 1] = 9
    assert torch.equal(model(**inputs).last_hidden_state, expected)
    calls = []
    model.cross_modal_model.encoder.register_forward_hook(lambda module, given, result: calls.append(given[0].shape))
    model(**inputs)
    model(**{**inputs, "frame_subtitles": torch.full_like(inputs["frame_subtitles"], -1)})
    shown = (inputs["frame_subtitles"][:, None] == torch.arange(3)[:, None]).any(dim=-1)
    tokens = int(inputs["subtitle_attention_mask"][shown].sum() + (inputs["frame_subtitles"] >= 0).sum())
    assert calls[0][0] * calls[0][1] == tokens and calls[1] == (1, 1, 48)


@torch.no_grad()
def test_scores_do_not_depend_on_padding_but_the_last_two_frames_do():
    model, inputs, texts = tiny_model(), tiny_videos(), tiny_texts(3)
    together = model(**inputs, **texts)
    for video in range(3):
        length = int(inputs["video_attention_mask"][video].sum())
        alone = {name: value[video : video + 1] for name, value in inputs.items()}
        alone |= {name: alone[name][:, :length] for name in alone if not name.startswith("subtitle")}
        own = model(**alone, **{name: value[video : video + 1] for name, value in texts.items()})
        torch.testing.assert_close(own.frame_embeds[0], together.frame_embeds[video, :length], **CLOSE)
        torch.testing.assert_close(own.logits_per_text[0, 0], together.logits_per_text[video, video], **CLOSE)
        inner = slice(0, length - 2)
        torch.testing.assert_close(own.start_logits[0, inner], together.start_logits[video, inner], **CLOSE)
        if length < inputs["video_attention_mask"].shape[1]:
            assert not own.start_logits.allclose(together.start_logits[video, :length], atol=1e-3)


@torch.no_grad()
def test_spans_of_all_videos_or_of_the_own_one():
    model, inputs, texts = tiny_model(), tiny_videos(), tiny_texts(4)
    every = model(**inputs, **texts)
    assert every.start_logits.shape == (4, 3, 8) and every.logits_per_text.shape == (4, 3)
    index = torch.tensor([2, 0, 0, 1])
    own = model(**inputs, **texts, video_index=index)
    torch.testing.assert_close(own.end_logits, every.end_logits[torch.arange(4), index], **CLOSE)
    with pytest.raises(ValueError, match="4 queries and 3 videos; pass video_index"):
        model(**inputs, **texts, return_loss=True)
    encoded = {"frame_embeds": every.frame_embeds, "video_attention_mask": every.video_attention_mask}
    again = model(text_embeds=every.text_embeds, **encoded)
    assert torch.equal(again.start_logits, every.start_logits)


def test_the_span_loss_is_left_out_at_random():
    model, tiny = tiny_model(span_drop_probability=0.8).train(), retrieval()
    model.config.span_drop_probability = 0.8
    draws = [random.Random(seed).random() > 0.8 for seed in range(12)]
    assert any(draws) and not all(draws)
    for seed, is_kept in enumerate(draws):
        random.seed(seed)
        output = model(**tiny.inputs, **tiny.training_inputs)
        assert (output.span_loss > 0) == is_kept
    random.seed(draws.index(False))
    model(**tiny.inputs, **tiny.training_inputs).loss.backward()
    assert model.start_predictor.weight.grad is not None  # of 0, so that all processes agree


def test_targets_that_are_all_ignored_cost_nothing():
    tiny = multiple_choice()
    model, nothing = tiny.make(), torch.full((3,), -1)
    output = model(**tiny.inputs, labels=nothing, start_positions=nothing, end_positions=nothing)
    assert output.loss == 0
    output.loss.backward()


@torch.no_grad()
def test_a_choice_that_fills_up_has_no_part():
    model, inputs, texts = tiny_model(HeroForMultipleChoice), tiny_videos(), tiny_texts(3, 3, start=2)
    expected = model(**inputs, **{name: value[:, :2] for name, value in texts.items()})
    texts["attention_mask"][:, 2] = 0
    found = model(**inputs, **texts)
    torch.testing.assert_close(found.logits[:, :2], expected.logits, **CLOSE)
    torch.testing.assert_close(found.start_logits, expected.start_logits, **CLOSE)
    assert found.logits.softmax(-1)[:, 2].eq(0).all()
    with torch.autocast("cpu", torch.bfloat16):  # as the recipe trains
        rounded = model(**inputs, **texts)
    torch.testing.assert_close(rounded.logits[:, :2].float(), expected.logits, atol=0.1, rtol=0.1)
    assert rounded.logits.softmax(-1)[:, 2].eq(0).all()


@torch.no_grad()
def test_a_folder_of_several_heads_loads_into_each_class(tmp_path, capfd):
    model = tiny_model(HeroForMultipleChoice)
    model.save_pretrained(tmp_path)
    statement = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(statement) is HeroForSequenceClassification
    assert torch.equal(statement.answer_head.linear1.weight, model.answer_head.linear1.weight)
    inputs = tiny_videos()
    body = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(body(**inputs).last_hidden_state, model.hero(**inputs).last_hidden_state)
    assert "UNEXPECTED" not in capfd.readouterr().err.upper()
    with pytest.raises(ValueError, match=r"lacks .* of HeroForVideoTextRetrieval: .*query_model.*pass new_head=True"):
        HeroForVideoTextRetrieval.from_pretrained(tmp_path)
    fresh = HeroForVideoTextRetrieval.from_pretrained(tmp_path, new_head=True)
    assert torch.equal(fresh.hero.frame_transform.dense.weight, model.hero.frame_transform.dense.weight)
    tiny_model(HeroForVideoTextRetrieval).save_pretrained(tmp_path / "retrieval")
    choice = AutoModelForMultipleChoice.from_pretrained(tmp_path / "retrieval", new_head=True)
    assert torch.equal(choice.span_pool.weight, choice.answer_pool.weight) and choice.span_pool.weight.any()


def test_new_weights_start_as_in_the_original():
    model = HeroForVideoTextRetrieval(HeroConfig(cross_modal_config={"num_hidden_layers": 1}, video_feature_size=64))
    assert 0.019 < model.hero.frame_transform.dense.weight.std() < 0.021  # N(0, 0.02)
    bound = 768**-0.5  # of torch's own linear layers
    assert 0.55 < model.query_projection.weight.std() / bound < 0.6
    assert 0.9 < model.query_model.embeddings.position_embeddings.weight.std() < 1.1


@torch.no_grad()
def test_long_rows_share_the_last_position(caplog):
    model, inputs = tiny_model(HeroModel), tiny_videos(videos=1)
    texts = tiny_texts(1, 1, length=36, start=2)
    texts["attention_mask"][:] = 1
    output = model(**inputs, **texts)
    assert output.last_hidden_state.isfinite().all()
    assert "Subtitle 0 of video 0 has 43 tokens" in caplog.text  # of 40 positions, the last two are not RoBERTa's


@pytest.mark.parametrize("fusion", ["sum", "concatenation", "sequence"])
@torch.no_grad()
def test_a_fusion_pools_each_subtitle_alone(fusion):
    """By the words of hero §2.6, a video at a time. All subtitles are equally long, so padding has no part."""
    model, inputs = tiny_model(HeroModel, fusion=fusion), tiny_videos()
    inputs["subtitle_attention_mask"][:] = 1
    inputs["subtitle_input_ids"].clamp_(min=2)
    output, body, cross = model(**inputs), model.fusion, model.cross_modal_model
    text = cross.embeddings
    for video in range(3):
        features, rows = shown_frames(inputs, video)
        vectors = []
        for ids, _ in rows:
            words = text.word_embeddings.weight[ids] + text.position_embeddings.weight[2 : 2 + len(ids)]
            states = text.LayerNorm(words + text.token_type_embeddings.weight[1])[None]
            for layer in cross.encoder.layer:
                states = layer(states)
            vectors.append(states[0].max(dim=0).values)
        if fusion == "sequence":
            end = body.subtitle_embeddings
            placed = torch.stack(vectors) + end.position_embeddings.weight[2 : 2 + len(vectors)]
            frames = body.frame_embeddings(features, torch.arange(len(features)), end.type_embedding("cpu"))
            fused = torch.cat([frames, end.LayerNorm(placed + end.token_type_embeddings.weight[1])])
            states = fused[None]
            for layer in model.temporal_model.encoder.layer:
                states = layer(states)
            states = states[0, : len(features)]
        else:
            shown = torch.zeros(len(features), 48)
            for (_, frames), vector in zip(rows, vectors):
                shown[frames] = vector
            frames, shown = body.frame_transform(features), body.subtitle_transform(shown)
            fused = frames + shown if fusion == "sum" else body.joint_transform(torch.cat([frames, shown], dim=1))
            states = temporal_states(model, fused)
        torch.testing.assert_close(output.last_hidden_state[video, : len(features)], states, **CLOSE)
    choice = tiny_model(HeroForMultipleChoice, fusion=fusion)
    answers = choice(**inputs, **tiny_texts(3, 2, start=2))
    assert answers.logits.shape == (3, 2)
    assert answers.start_logits.shape == (3, 11 if fusion == "sequence" else 8)  # subtitles behind the frames


@torch.no_grad()
def test_a_channel_can_be_left_out():
    inputs = tiny_videos()
    other = {**inputs, "video_features": inputs["video_features"] + 1}
    model = tiny_model(HeroModel, channels="subtitles")
    assert torch.equal(model(**inputs).last_hidden_state, model(**other).last_hidden_state)
    model = tiny_model(HeroModel, channels="video")
    other = {**inputs, "frame_subtitles": torch.full((3, 8), -1)}
    assert torch.equal(model(**inputs).last_hidden_state, model(**other).last_hidden_state)


GOOD = tiny_videos()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"video_features": torch.zeros(3, 8, 5)}, r"is \(3, 8, 5\); expected .*16\].*of unknown extractors"),
        ({"video_features": torch.zeros(3, 13, FEATURES)}, "1 to 12 frames"),
        ({"frame_subtitles": None}, "frame_subtitles .* are needed"),
        ({"video_attention_mask": torch.ones(3, 7)}, r"video_attention_mask is \(3, 7\); expected \(3, 8\)"),
        ({"frame_subtitles": torch.full((3, 8), 3)}, r"frame_subtitles\[0, 0\] is 3; expected .* from 0 to 2"),
        ({"frame_subtitles": torch.full((3, 8), -2)}, r"is -2; expected"),
        ({"frame_subtitles": torch.zeros(3, 8, dtype=torch.long)}, r"frame_subtitles\[1, 7\] is 0; .* -1 at padding"),
        (
            {"subtitle_attention_mask": torch.tensor([1, 1, 0])[:, None].expand(3, 3, 7)},
            r"frame_subtitles\[0, 6\] is 2; expected a subtitle with tokens",
        ),
    ],
)
def test_wrong_input_is_told(changed, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(HeroModel)(**{**GOOD, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temporal_config": {"hidden_size": 96}}, "hidden sizes .* one width for all"),
        ({"query_config": {"hidden_size": 48, "num_attention_heads": 5}}, "query_config.* multiple"),
        ({"max_frames": 41}, "max_frames is 41, but temporal_config has 40"),
        ({"ranking_loss": "triplet"}, "ranking_loss"),
    ],
)
def test_a_config_that_fits_no_model_is_refused(changed, message):
    with pytest.raises(Exception, match=message):
        tiny_config(**changed)


def test_the_longest_video_fits():
    longest = tiny_videos(videos=1, frames=FRAMES)
    longest["frame_subtitles"].clamp_(max=2)
    assert tiny_model(HeroModel)(**longest).last_hidden_state.shape == (
        1,
        FRAMES,
        48,
    )
