"""CLIP-Enhanced: CLIP's text encoder in HERO, and its texts in the processor (hero §11)."""

import logging

import pytest
import torch
from transformers import AutoConfig, AutoProcessor, CLIPTextConfig

from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval, HeroModel
from hf_videolang.models.hero.modeling_hero_answers import HeroForMultipleChoice, HeroForSequenceClassification
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor
from tests.common import model_checks
from tests.common.model_checks import CLOSE, TinyModel
from tests.common.tiny.hero import (
    CLIP_WORDS,
    FEATURES,
    WORDS,
    tiny_clip_processor,
    tiny_model,
    tiny_text_config,
    tiny_texts,
    tiny_videos,
    word_tokenizer,
)

START, END = len(CLIP_WORDS) - 2, len(CLIP_WORDS) - 1
A, B = CLIP_WORDS.index("a"), CLIP_WORDS.index("b")


def clip_model(model_class: type = HeroForVideoTextRetrieval, **changed):
    return tiny_model(model_class, text_config=tiny_text_config(), **changed)


def retrieval() -> TinyModel:
    inputs = {**tiny_videos(), **tiny_texts(3)}
    return TinyModel(lambda: clip_model(span_drop_probability=0.0), inputs, ("text_embeds", "logits_per_text"))


@pytest.mark.parametrize("name", ["saving_and_loading", "gradient_checkpointing", "compilation", "export"])
def test_model(name, tmp_path):
    getattr(model_checks, f"check_{name}")(retrieval(), tmp_path)


@torch.no_grad()
def test_texts_are_read_by_clip_then_projected():
    model, inputs = clip_model(HeroModel), tiny_videos()
    seen = []
    model.text_model.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    expected = model(**inputs).last_hidden_state
    assert len(seen[0]) == 3 * 3 - 1  # every different text once; the last video shows two
    inputs["subtitle_input_ids"][1:] = inputs["subtitle_input_ids"][0]
    model(**inputs)
    assert len(seen[1]) == 3
    assert not torch.allclose(expected, model(**inputs).last_hidden_state)
    words = set(dict(model.named_parameters()))
    assert not any("word_embeddings" in name for name in words)
    assert model.get_input_embeddings().weight.shape == (len(CLIP_WORDS), 32)
    plain = clip_model(HeroModel, text_norm=False)
    assert words - set(dict(plain.named_parameters())) == {
        "cross_modal_model.embeddings.LayerNorm.weight",
        "cross_modal_model.embeddings.LayerNorm.bias",
    }
    assert plain(**inputs).last_hidden_state.isfinite().all()


@torch.no_grad()
def test_padding_and_company_change_nothing():
    model, inputs, texts = clip_model(HeroForMultipleChoice), tiny_videos(), tiny_texts(3, 2)
    together = model(**inputs, **texts)
    for video in range(3):
        one = {name: value[video : video + 1] for name, value in {**inputs, **texts}.items()}
        torch.testing.assert_close(model(**one).logits, together.logits[video : video + 1], **CLOSE)
    inputs["subtitle_input_ids"] = torch.where(inputs["subtitle_attention_mask"] == 1, inputs["subtitle_input_ids"], 0)
    torch.testing.assert_close(model(**inputs, **texts).logits, together.logits, **CLOSE)


@pytest.mark.parametrize("vocabulary", ["roberta", "clip", "clip_tied"])
def test_captions_have_words_of_their_own_or_clips(vocabulary, tmp_path):
    made = clip_model(HeroForVideoCaptioning, caption_vocabulary=vocabulary)
    names, words = dict(made.named_parameters()), made.lm_head.decoder.weight
    count = len(WORDS if vocabulary == "roberta" else CLIP_WORDS)
    tied = "hero.text_model.embeddings.token_embedding" if vocabulary == "clip_tied" else "caption_words"
    assert words is names[f"{tied}.weight"] and words.shape == (count, 32 if vocabulary == "clip_tied" else 48)
    tiny = TinyModel(
        lambda: clip_model(HeroForVideoCaptioning, caption_vocabulary=vocabulary, label_smoothing=0.0),
        tiny_videos(),
        ("logits",),
        {"labels": torch.tensor([[5, 6, 2], [7, 2, -100], [8, 9, 2]])},
    )
    model_checks.check_saving_and_loading(
        TinyModel(tiny.make, tiny.inputs | tiny.training_inputs, tiny.outputs), tmp_path
    )
    if vocabulary != "clip_tied":  # whose table is the encoder's, too, and learns more slowly
        model_checks.check_overfitting(tiny, tmp_path)
    loss = made(**tiny.inputs, **tiny.training_inputs).loss
    loss.backward()
    assert all(value.grad is not None for name, value in names.items() if name.startswith(("caption_", "lm_head")))
    ids = made.generate(**tiny.inputs, max_new_tokens=4)
    assert ids.shape[0] == 3 and ids.max() < count


@pytest.mark.parametrize("model_class", [HeroForMultipleChoice, HeroForSequenceClassification])
def test_other_heads_learn_with_it(model_class, tmp_path):
    texts = tiny_texts(3, 2) if model_class is HeroForMultipleChoice else tiny_texts(3)
    labels = {"labels": torch.tensor([0, 1, 1])}
    tiny = TinyModel(lambda: clip_model(model_class), {**tiny_videos(), **texts}, ("logits",), labels)
    model_checks.check_overfitting(tiny, tmp_path)


def test_a_video_without_subtitles_is_an_empty_text_for_clip():
    inputs = tiny_videos()
    model = clip_model(HeroModel, channels="video")
    seen = []
    model.text_model.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    model(**inputs)
    assert seen[0].tolist() == [[START, END]]


def test_another_width_than_the_projection_is_refused(tmp_path):
    clip_model(HeroModel).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.text_config = tiny_text_config(hidden_size=16)
    with pytest.raises(RuntimeError, match="mismatched_sizes"):  # transformers prints a table of both shapes
        HeroModel.from_pretrained(tmp_path, config=config)
    with pytest.raises(Exception, match="text_config is given and fusion is 'sum'"):
        clip_model(HeroModel, fusion="sum")


def test_clips_own_config_is_taken(tmp_path):
    clip_model(HeroModel).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config.text_config, CLIPTextConfig) and config.text_config.hidden_size == 32
    assert config.get_text_config().vocab_size == len(CLIP_WORDS)


def kept(batch, name: str = "subtitle_input_ids", mask: str = "subtitle_attention_mask") -> list[list[int]]:
    return [row[own == 1].tolist() for row, own in zip(batch[name].flatten(0, -2), batch[mask].flatten(0, -2))]


def test_texts_have_clips_format():
    processor = tiny_clip_processor(context_subtitles=1)
    subtitles = [{"start": 0.0, "end": 3.0, "text": "a"}, {"start": 3.0, "end": 6.0, "text": "b"}]
    batch = processor(video_features=torch.zeros(4, FEATURES), subtitles=subtitles, text="a b")
    assert kept(batch) == [[START, A, END], [START, A, B, END]]
    assert kept(batch, "input_ids", "attention_mask") == [[START, A, B, END]]
    assert batch["subtitle_input_ids"][0, 0, -1] == 0  # padding
    assert kept(processor(video_features=torch.zeros(4, FEATURES))) == [[START, END]]
    video = {"video_features": torch.zeros(4, FEATURES), "captions": ["a b"]}
    assert processor(**video)["labels"].tolist() == [[WORDS.index("a"), WORDS.index("b"), 2]]
    clips = tiny_clip_processor(caption_tokenizer=None)
    assert clips(**video)["labels"].tolist() == [[A, B, END]] and clips.batch_decode([[A, B]]) == ["a b"]
    batch = processor(question="a", choices=["b", "a b"])
    assert kept(batch, "input_ids", "attention_mask") == [[START, A, B, END], [START, A, A, B, END]]


def test_long_texts_are_cut_and_counted(caplog):
    processor = tiny_clip_processor()
    logger = logging.getLogger("hf_videolang.models.hero.processing_hero")
    logger.addHandler(caplog.handler)
    try:
        batch = processor(text=["a b", "a " * 20])
    finally:
        logger.removeHandler(caplog.handler)
    assert batch["input_ids"].shape == (2, 12)
    assert batch["input_ids"][1].tolist() == [START, *[A] * 10, END]
    assert "1 of 2 texts have more than 12 tokens, which CLIP reads, and are cut" in caplog.text


def test_both_tokenizers_are_saved(tmp_path):
    processor = tiny_clip_processor()
    processor.save_pretrained(tmp_path)
    for loaded in (HeroProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path, max_length=7)):
        assert loaded.tokenizer("a")["input_ids"] == [START, A, END]
        assert loaded.caption_tokenizer("a")["input_ids"] == [WORDS.index("a")]
        assert loaded.text_encoder == "clip" and loaded.to_dict()["caption_tokenizer"] == "caption_tokenizer"
    assert loaded.max_length == 7
    plain = HeroProcessor(word_tokenizer(WORDS))
    plain.save_pretrained(tmp_path / "plain")
    assert "caption_tokenizer" not in HeroProcessor.from_pretrained(tmp_path / "plain").to_dict()
    assert plain.caption_tokenizer is plain.tokenizer
