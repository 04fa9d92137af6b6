"""HERO's captions against a plain twin, `generate` with all it offers, and the checks that every model passes."""

from functools import partial

import pytest
import torch
from torch.nn.functional import gelu, layer_norm

from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_captioning import (
    HeroCaptionMemory,
    HeroForVideoCaptioning,
    HeroStepLinear,
    smoothed_cross_entropy,
)
from tests.common import model_checks
from tests.common.model_checks import CLOSE, TinyModel
from tests.common.tiny.hero import FEATURES, WORDS, tiny_model, tiny_processor, tiny_texts, tiny_videos

SEGMENTS = {"segments": torch.tensor([[2, 5], [0, 8], [1, 2], [3, 4]]), "video_index": torch.tensor([0, 0, 1, 2])}


def labels(captions: int = 3) -> torch.Tensor:
    texts = tiny_texts(captions, length=7)
    return texts["input_ids"].masked_fill(texts["attention_mask"] == 0, -100)


def captioning() -> TinyModel:
    inputs = {**tiny_videos(), "decoder_input_ids": tiny_texts(3, length=5)["input_ids"]}
    make = partial(tiny_model, HeroForVideoCaptioning, label_smoothing=0.0)
    targets = labels()[:, :5]
    targets[:, 3:] = -100
    return TinyModel(make, inputs, ("logits",), {"labels": targets})


# What is the same as in the other heads is tested there. Padding has a test of its own below.
CHECKS = [
    getattr(model_checks, f"check_{name}")
    for name in ("saving_and_loading", "missing_weights", "offloading", "lora", "overfitting")
]


@pytest.mark.parametrize("check", CHECKS)
def test_model(check, tmp_path):
    check(captioning(), tmp_path)


def test_gradient_checkpointing():
    """Close: it adds up the gradients of the words, which stand at three places, in another order."""
    tiny = captioning()
    expected, model = gradients(tiny, tiny.make().train()), tiny.make().train()
    model.gradient_checkpointing_enable()
    found = gradients(tiny, model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_bfloat16():
    tiny = captioning()
    model = tiny.make()
    expected, found = tiny.run(model)["logits"], tiny.run(model.to(torch.bfloat16))["logits"]
    assert found.dtype == torch.bfloat16 and (found.float() - expected).abs().mean() < 0.01 * expected.std()


def gradients(tiny: TinyModel, model: HeroForVideoCaptioning) -> dict[str, torch.Tensor]:
    tiny.loss(model).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def attend(layer, queries: torch.Tensor, others: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    own, heads = layer.self, layer.self.num_attention_heads
    q, k, v = own.query(queries), own.key(others), own.value(others)
    q, k, v = (states.unflatten(-1, (heads, -1)).transpose(0, 1) for states in (q, k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
    return layer.output.LayerNorm(layer.output.dense(mixed) + queries)


def plain_logits(model: HeroForVideoCaptioning, ids: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Of one caption [N] and its frames [L, D], after the words of the specification."""
    decoder, table = model.caption_decoder, model.get_input_embeddings().weight
    norm = decoder.LayerNorm
    states = table[ids] + decoder.position_embeddings.weight[: len(ids)]
    states = layer_norm(states, states.shape[1:], norm.weight, norm.bias, 1e-5)
    for layer in decoder.encoder.layer:
        states = attend(layer.attention, states, states, torch.ones(len(ids), len(ids)).tril().bool())
        states = attend(layer.crossattention, states, memory)
        states = layer.output.LayerNorm(layer.output.dense(gelu(layer.intermediate.dense(states))) + states)
    head = model.lm_head
    states = layer_norm(gelu(head.dense(states)), states.shape[1:], head.LayerNorm.weight, head.LayerNorm.bias, 1e-5)
    return states @ table.T + head.decoder.bias


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_decoder_follows_the_specification(attention):
    model, inputs = tiny_model(HeroForVideoCaptioning), tiny_videos()
    model.set_attn_implementation(attention)
    targets = labels(4)
    output = model(**inputs, **SEGMENTS, labels=targets)
    frames = model.hero(**inputs).last_hidden_state
    losses = []
    for number, ((start, end), video) in enumerate(zip(SEGMENTS["segments"].tolist(), SEGMENTS["video_index"])):
        words = targets[number][targets[number] >= 0]
        expected = plain_logits(model, torch.cat([torch.tensor([0]), words[:-1]]), frames[video, start:end])
        torch.testing.assert_close(output.logits[number, : len(words)], expected, **CLOSE)
        share = torch.full_like(expected, 0.1 / (len(WORDS) - 1)).scatter(1, words[:, None], 0.9)
        losses.append(torch.nn.functional.kl_div(expected.log_softmax(-1), share, reduction="none").sum(-1))
    torch.testing.assert_close(output.loss, torch.cat(losses).mean())


def test_without_smoothing_the_loss_is_a_cross_entropy():
    logits, targets = torch.randn(2, 7, 30), labels(2).clamp(max=29)
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets)
    torch.testing.assert_close(smoothed_cross_entropy(logits, targets, 0.0), expected)
    assert smoothed_cross_entropy(logits, torch.full_like(targets, -100), 0.1) == 0


@torch.no_grad()
def test_whole_videos_do_not_see_padding():
    model, inputs = tiny_model(HeroForVideoCaptioning), tiny_videos()
    together = model(**inputs, labels=labels())
    for video, length in enumerate(inputs["video_attention_mask"].sum(dim=1)):
        alone = {name: value[video : video + 1] for name, value in inputs.items()}
        alone |= {name: alone[name][:, :length] for name in alone if not name.startswith("subtitle")}
        logits = model(**alone, labels=labels()[video, None]).logits[0]
        torch.testing.assert_close(logits, together.logits[video], **CLOSE)
    chosen = model(**inputs, video_index=torch.tensor([0, 2, 2]), labels=labels())
    torch.testing.assert_close(chosen.logits[2], together.logits[2], **CLOSE)
    assert not chosen.logits[1].allclose(together.logits[1], atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True}],
    ids=["greedy", "beams", "several", "sampling"],
)
def test_the_cache_changes_no_word(options):
    model, inputs = tiny_model(HeroForVideoCaptioning), {**tiny_videos(), **SEGMENTS}
    calls = []
    model.hero.register_forward_hook(lambda module, given, result: calls.append(result.last_hidden_state.shape))
    keys = model.caption_decoder.encoder.layer[0].crossattention.self.key
    keys.register_forward_hook(lambda module, given, result: calls.append(result.shape))
    written = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        written.append(model.generate(**inputs, max_new_tokens=9, use_cache=use_cache, **options))
    assert torch.equal(*written) and len(written[0]) == 4 * options.get("num_return_sequences", 1)
    beams = 4 * options.get("num_beams", 1)
    # The videos and, with a cache, the keys of their frames are computed once.
    assert calls[:2] == [(3, 8, 48), (beams, 8, 48)] and calls.count((3, 8, 48)) == 2
    if not options:
        memory = model.get_memory(**inputs)
        for _ in range(2):  # beams leave the memory as it is
            assert len(model.generate(encoder_outputs=memory, max_new_tokens=2, num_beams=3)) == 4
        assert torch.equal(model.generate(encoder_outputs=memory, max_new_tokens=9), written[0])
        again = written[0][:, :1]
        for _ in range(written[0].shape[1] - 1):  # one word after the other
            logits = model(encoder_outputs=memory, decoder_input_ids=again).logits[:, -1]
            again = torch.cat([again, logits.argmax(-1, keepdim=True)], dim=1)
        ended = (again == 2).cumsum(1).roll(1, 1).bool()
        ended[:, 0] = False
        assert torch.equal(again.masked_fill(ended, 1), written[0])


def test_a_step_with_a_cache_is_one_word():
    model, inputs = tiny_model(HeroForVideoCaptioning), tiny_videos()
    ids = tiny_texts(3, length=6)["input_ids"]
    expected = model(**inputs, decoder_input_ids=ids).logits
    first = model(**inputs, decoder_input_ids=ids[:, :3], use_cache=True)
    memory = HeroCaptionMemory(first.encoder_last_hidden_state, inputs["video_attention_mask"])
    for place in range(3, 6):
        step = model(
            encoder_outputs=memory, decoder_input_ids=ids[:, place, None], past_key_values=first.past_key_values
        )
        torch.testing.assert_close(step.logits[:, 0], expected[:, place], **CLOSE)


@pytest.mark.parametrize("words", [64, 59, 8])
def test_few_states_are_scored_as_many_are(words):
    layer, states = HeroStepLinear(16, words), torch.randn(2, 3, 16)
    expected = torch.nn.functional.linear(states, layer.weight, layer.bias)
    for count in (1, 2, 3):
        torch.testing.assert_close(layer(states[:, :count]), expected[:, :count], **CLOSE)
        torch.testing.assert_close(layer(states[0, :count]), expected[0, :count], **CLOSE)


def test_words_are_suppressed_on_request():
    model, inputs = tiny_model(HeroForVideoCaptioning), tiny_videos()
    plain = model.generate(**inputs, max_new_tokens=12, eos_token_id=None)
    never = plain[0, 1].item()
    model.generation_config.suppress_tokens = [never]
    assert never not in model.generate(**inputs, max_new_tokens=12, eos_token_id=None)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([[2, 5], [3, 3]], r"segments\[1\] is \[3, 3\]; expected .* within the 8 frames"),
        ([[2, 9], [3, 4]], r"segments\[0\] is \[2, 9\]"),
        ([[-1, 5], [3, 4]], r"segments\[0\] is \[-1, 5\]"),
    ],
)
def test_a_segment_must_lie_in_its_video(segments, message):
    model, inputs = tiny_model(HeroForVideoCaptioning), tiny_videos()
    with pytest.raises(ValueError, match=message):
        model.generate(**inputs, segments=torch.tensor(segments), video_index=torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="2 segments of 3 videos; pass video_index"):
        model.get_memory(**inputs, segments=torch.tensor(segments))
    with pytest.raises(ValueError, match="pass labels or decoder_input_ids"):
        model(**inputs)


def test_a_head_may_start_new(tmp_path):
    tiny_model(HeroForVideoTextRetrieval).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks .* weights of HeroForVideoCaptioning.*pass new_head=True"):
        HeroForVideoCaptioning.from_pretrained(tmp_path)
    model = HeroForVideoCaptioning.from_pretrained(tmp_path, new_head=True)
    assert 0.9 < model.caption_decoder.position_embeddings.weight.std() < 1.1  # as torch starts it (hero §10)
    assert 0.01 < model.lm_head.dense.weight.std() < 0.03
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight


def test_from_seconds_to_captions(tmp_path):
    processor, model = tiny_processor(), tiny_model(HeroForVideoCaptioning)
    features, subtitles = torch.randn(8, FEATURES), [{"start": 0.0, "end": 6.0, "text": "a b"}]
    spans = [(3.0, 7.4), (0.0, 0.1), (9.0, 99.0)]
    inputs = processor(video_features=features, subtitles=subtitles, segments=spans, captions=["a b", "c", ""])
    assert inputs["segments"].tolist() == [[2, 5], [0, 1], [6, 8]] and inputs["video_index"].tolist() == [0, 0, 0]
    a, b, c = map(WORDS.index, "abc")
    assert inputs["labels"].tolist() == [[a, b, 2], [c, 2, -100], [2, -100, -100]]
    assert model(**inputs).loss > 0
    inputs = processor(video_features=[features, features[:5]], segments=[[(0, 3)], [(3, 6), (6, 7.5)]])
    assert inputs["segments"].tolist() == [[0, 2], [2, 4], [4, 5]] and inputs["video_index"].tolist() == [0, 1, 1]
    written = model.generate(**inputs, max_new_tokens=5)
    texts = processor.batch_decode(written, skip_special_tokens=True)
    assert len(texts) == 3 and not any("<" in text for text in texts)
    with pytest.raises(ValueError, match="segment 12 to 13 s starts behind the last row .* ends at 12 s"):
        processor(video_features=features, segments=[(12.0, 13.0)])
    with pytest.raises(ValueError, match="segment 3 to 3 s; expected seconds from 0 on"):
        processor(video_features=features, segments=[(3.0, 3.0)])
    with pytest.raises(ValueError, match="segments of 1 videos for 2"):
        processor(video_features=[features, features], segments=[[(0, 3)]])
