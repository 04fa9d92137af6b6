"""Other fusions, single channels and CLIP-Enhanced, against the original's modules."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from hf_videolang.conversion.clip_enhanced import ClipText, init_clip_enhanced
from hf_videolang.conversion.families import convert
from hf_videolang.conversion.hero.layouts import find_layout
from hf_videolang.conversion.hero.starts import HEADS
from hf_videolang.conversion.openai_clip import openai_origin
from hf_videolang.conversion.untrusted import read_checkpoint
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from tests.common.tiny.hero import clip_tokenizer, word_tokenizer
from tests.parity.cases import Case
from tests.parity.hero.models import (
    WORDS,
    compare,
    converted,
    load,
    original_rows,
    processor_of,
    raw,
    same_rows,
    subtitles,
)


def rectangular(case: Case, count: str = "num_subs", matched: str = "sub_idx2frame_idx") -> dict[str, Tensor]:
    """The original's rows of subtitles as the model takes them."""
    counts, features = case.meta[count], case.inputs["c_v_feats"]
    ids, mask = case.inputs["f_sub_input_ids"], case.inputs["f_sub_attn_masks"]
    shape = len(counts), max(counts), ids.shape[1]
    inputs = {
        "video_features": features,
        "video_attention_mask": case.inputs["c_attn_masks"],
        "subtitle_input_ids": torch.ones(shape, dtype=torch.long),
        "subtitle_attention_mask": torch.zeros(shape, dtype=torch.long),
        "frame_subtitles": torch.full(features.shape[:2], -1),
    }
    first = 0
    for video, number in enumerate(counts):
        inputs["subtitle_input_ids"][video, :number] = ids[first : first + number]
        inputs["subtitle_attention_mask"][video, :number] = mask[first : first + number]
        for subtitle, frames in case.meta[matched][video]:
            inputs["frame_subtitles"][video, frames] = subtitle
        first += number
    return inputs


@torch.no_grad()
def check_fusion(case: Case, tmp_path: Path) -> None:
    inputs = rectangular(case)
    for attention in ("sdpa", "eager"):
        model = load(HeroForVideoTextRetrieval, case, attn_implementation=attention)
        read: list[Tensor] = []
        model.hero.cross_modal_model.encoder.register_forward_hook(
            lambda module, given, result, read=read: read.append(result.last_hidden_state)
        )
        body = model.hero(**inputs)
        is_there = inputs["subtitle_attention_mask"].any(dim=-1)
        hidden = read[0].unflatten(0, is_there.shape)[is_there]
        texts = {"input_ids": case.inputs["query_input_ids"], "attention_mask": case.inputs["query_attn_masks"]}
        output = model(**inputs, **texts)
        found = {
            "sub_hidden": hidden,
            "repr_no_temporal": body.fused_frames,
            "repr": body.last_hidden_state,
            "video_scores": output.logits_per_text,
        }
        compare(case, found)


@torch.no_grad()
def check_single_channel(case: Case, tmp_path: Path) -> None:
    """Without the pooler, the embeddings of hidden frames and the rows without frames, which nothing reads."""
    names = raw(case)["order"]
    chosen = [raw(case)["videos"][name] for name in names]
    shown = [subtitles(video, raw(case)["interval"]) for video in chosen]
    processor = processor_of(case)
    processor.row_start = "cls"
    features = [case.inputs[f"features/{name}"] for name in names]
    inputs = processor(video_features=features, subtitles=shown, truncation=True)
    same_rows(case, inputs, "sub_only/")
    expected = {name: value for name, value in case.expected.items() if "pooled" not in name}
    unread = expected.pop("sub_only/f_image_embeddings")
    assert unread.shape == (13, 5, 32)
    masks = {}
    for name in ("sub_only", "video_only"):
        is_read = [bool(frames) for video in case.meta[name]["sub_idx2frame_idx"] for _, frames in video]
        masks[name] = case.inputs[f"{name}/f_attn_masks"][..., None] * torch.tensor(is_read)[:, None, None]
        expected[f"{name}/f_encoder_last_hidden"] = expected[f"{name}/f_encoder_last_hidden"] * masks[name]
    images = expected["video_only/f_image_embeddings"]
    expected["video_only/f_image_embeddings"] = images * inputs["video_attention_mask"][..., None]
    for attention in ("sdpa", "eager"):
        found = {}
        for name, channels in (("sub_only", "subtitles"), ("video_only", "video")):
            model = load(AutoModel, case, attn_implementation=attention, channels=channels)
            calls: list[Any] = []
            model.cross_modal_model.register_forward_hook(
                lambda module, given, result, calls=calls: calls.append((given, result))
            )
            output = model(**inputs)
            (frames, _, ids, positions, token_rows, _), (states, tokens) = calls[0]
            shown_frames, token_mask = inputs["frame_subtitles"], inputs["subtitle_attention_mask"]
            if name == "video_only":
                shown_frames, token_mask = inputs["video_attention_mask"] - 1, (token_rows >= 0).long()[:, None]
                found["video_only/f_image_embeddings"] = frames * inputs["video_attention_mask"][..., None]
            else:
                states = torch.zeros_like(output.fused_frames)
            one = _Rows(case, name)
            rows = original_rows(one, shown_frames, states, tokens, token_mask)  # type: ignore[arg-type]
            embedded = model.cross_modal_model.embeddings(ids, positions).unflatten(1, token_mask.shape[1:])
            still = model.frame_transform(inputs["video_features"] * float(name == "video_only"))
            found |= {
                f"{name}/f_encoder_last_hidden": rows * masks[name],
                f"{name}/f_text_embeddings": embedded[token_mask.any(dim=-1)],
                f"{name}/matched_frame_features": output.fused_frames - still,
                f"{name}/frame_transform": still,
                f"{name}/repr_no_temporal": output.fused_frames,
                f"{name}/repr": output.last_hidden_state,
            }
        compare(case, found, expected)


class _Rows:
    """One half of a case of single channels, as `original_rows` reads it."""

    def __init__(self, case: Case, name: str):
        self.meta = case.meta[name]
        self.expected = {"f_encoder_last_hidden": case.expected[f"{name}/f_encoder_last_hidden"]}


def check_partial_init(case: Case, tmp_path: Path) -> None:
    """Without the pooler, which no task reads, and the second of a tied pair."""
    word_tokenizer(WORDS).save_pretrained(tmp_path / "tokenizer")
    options = {"config": case.original_config, "tokenizer": tmp_path / "tokenizer", "video_feature_size": "40"}
    report = convert(case.checkpoint, tmp_path / "model", from_roberta=True, features="none", **options)
    model = AutoModel.from_pretrained(tmp_path / "model")
    layout = find_layout(["v_encoder.f_encoder.img_embeddings.", "v_encoder.c_encoder."])
    found = {layout.origin(name)[0]: value for name, value in model.state_dict().items()}
    expected = {name: value for name, value in case.expected.items() if "pooler" not in name and "lm_head" not in name}
    compare(case, {name: found[name] for name in expected}, expected)
    fresh = {layout.origin(name)[0] for name in report["created"]}
    left = {name for name in case.meta["left_at_random_init"] if "mask_embedding" not in name}
    assert left <= fresh and not fresh & expected.keys()
    assert report["dropped"]["roberta.encoder.layer.4.output.dense.bias"] == "of every 4 layers, the last is kept"


def clip_folder(checkpoint: Path, config: Path, folder: Path) -> Path:
    """OpenAI's text encoder as a folder of the Hub: tiny heads have another width than OpenAI's."""
    sizes = json.loads(config.read_text())
    names = {"vocab_size": "vocab_size", "context_length": "max_position_embeddings"}
    names |= {f"transformer_{theirs}": ours for theirs, ours in TRANSFORMER.items()}
    stated = {ours: sizes[theirs] for theirs, ours in names.items()}
    model = CLIPTextModel(CLIPTextConfig(**stated, intermediate_size=4 * sizes["transformer_width"]))
    text = ClipText(read_checkpoint(checkpoint).content, checkpoint)
    origins = {name: text.origin(name) for name in model.state_dict()}
    model.load_state_dict({name: transform(text.values[key]) for name, (key, transform) in origins.items()})
    model.save_pretrained(folder)
    tokenizer = clip_tokenizer([f"w{number}" for number in range(sizes["vocab_size"])], sizes["context_length"])
    tokenizer.save_pretrained(folder)
    return folder


TRANSFORMER = {"width": "hidden_size", "heads": "num_attention_heads", "layers": "num_hidden_layers"}


@torch.no_grad()
def check_clip_text_encoder(case: Case, tmp_path: Path) -> None:
    for attention in ("sdpa", "eager"):
        folder = clip_folder(case.checkpoint, case.original_config, tmp_path / attention)
        model = CLIPTextModel.from_pretrained(folder, attn_implementation=attention)
        before: list[Tensor] = []
        model.final_layer_norm.register_forward_pre_hook(lambda module, given, before=before: before.append(given[0]))
        output = model(case.inputs["input_ids"])
        assert model.config.eos_token_id == 49407  # the default; the pooled state is of the end token
        at_end = case.inputs["input_ids"].argmax(dim=1)
        pooled = output.last_hidden_state[torch.arange(len(at_end)), at_end]
        projection, _ = openai_origin("text_projection.weight")
        found = {
            "token_hidden_before_ln_final": before[0],
            "token_hidden": output.last_hidden_state,
            "text_features": pooled @ read_checkpoint(case.checkpoint).content[projection],
        }
        compare(case, found)


def clip_enhanced(case: Case, tmp_path: Path) -> Path:
    """The command's folder, with HERO's tensors and the projection of the case in it."""
    shared = case.path.parent / "checkpoints" / "multitask_tiny.pt"
    sizes = shared.with_name("multitask_tiny.model_config.json")
    clip = clip_folder(case.path / "clip_text.pt", case.path / "clip_config.json", tmp_path / "clip")
    part = json.loads(sizes.read_text())["f_config"]
    words = {
        name: part[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings")
    }
    layers = {"num_hidden_layers": part["num_hidden_layers"], "num_attention_heads": part["num_attention_heads"]}
    roberta = RobertaForMaskedLM(RobertaConfig(**words, **layers, type_vocab_size=1, pad_token_id=1))
    roberta.save_pretrained(tmp_path / "roberta")
    word_tokenizer(WORDS).save_pretrained(tmp_path / "roberta")
    options = {"features": "none", "video_feature_size": "40", "config": sizes}
    init_clip_enhanced(clip, tmp_path / "roberta", tmp_path / "start", **options)
    hero = converted(shared, sizes)
    config = AutoConfig.from_pretrained(tmp_path / "start")
    config.max_frames = AutoConfig.from_pretrained(hero).max_frames
    for number, model_class in enumerate(HEADS):
        model, trained = model_class(config), model_class.from_pretrained(hero).state_dict()
        start = model_class.from_pretrained(tmp_path / "start").state_dict()
        projection = "hero.cross_modal_model.embeddings.projection"
        for name, value in model.state_dict().items():
            if name.startswith(projection):
                value.copy_(case.inputs[name.replace(projection, "weights/projection")])
            else:
                value.copy_(trained[name] if name in trained else start[name])
        model.save_pretrained(tmp_path / f"model{number}")
    AutoProcessor.from_pretrained(tmp_path / "start").save_pretrained(tmp_path / "model0")
    return tmp_path / "model0"


@torch.no_grad()
def check_clip_enhanced(case: Case, tmp_path: Path) -> None:
    folder = clip_enhanced(case, tmp_path)
    captioning = HeroForVideoCaptioning.from_pretrained(
        folder.with_name(f"model{HEADS.index(HeroForVideoCaptioning)}")
    )
    inputs, ids = rectangular(case), case.inputs["query_input_ids"]
    queries = [row[mask == 1].tolist() for row, mask in zip(ids, case.inputs["query_attn_masks"])]
    processor = AutoProcessor.from_pretrained(folder)
    texts = processor(text=[" ".join(f"w{number}" for number in row[1:-1]) for row in queries])
    assert torch.equal(texts["input_ids"], ids)
    for attention in ("sdpa", "eager"):
        model = HeroForVideoTextRetrieval.from_pretrained(folder, attn_implementation=attention)
        mask = case.inputs["f_sub_attn_masks"][..., None]
        states = model.hero.text_model(case.inputs["f_sub_input_ids"]).last_hidden_state
        output = model(**inputs, **texts, return_loss=True)
        text = model.get_text_features(**texts)
        query_mask = texts["attention_mask"][..., None]
        found = {
            "text_embeddings": model.hero.cross_modal_model.embeddings(states) * mask,
            "repr": output.frame_embeds,
            "query_hidden": text.last_hidden_state * query_mask,
            "modularized_query": output.text_embeds,
            "video_scores": output.logits_per_text,
            "loss_mean/neg_ctx": output.video_ranking_loss,
            "loss_mean/neg_q": output.query_ranking_loss,
        }
        captioning.set_attn_implementation(attention)
        written = captioning(**inputs, labels=case.inputs["cap_tgt_ids"])
        assert torch.equal(captioning.shift_right(case.inputs["cap_tgt_ids"]), case.inputs["cap_input_ids"])
        found |= {"caption_logits": written.logits, "caption_loss": written.loss}
        expected = dict(case.expected)
        expected["text_embeddings"] = expected["text_embeddings"] * mask
        expected["query_hidden"] = expected["query_hidden"] * query_mask
        compare(case, found, expected)


CHECKS = {
    "clip_enhanced_recommended": check_clip_enhanced,
    "clip_text_encoder": check_clip_text_encoder,
    "fusion": check_fusion,
    "partial_init": check_partial_init,
    "single_channel": check_single_channel,
}
