"""HERO against the outputs of the original, from its checkpoint through converter, processor and Auto classes."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from hf_videolang.conversion.families import convert
from hf_videolang.conversion.hero.layouts import find_layout
from hf_videolang.losses.moment_ranking import moment_ranking_losses
from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from hf_videolang.models.hero.modeling_hero_captioning import HeroCaptionMemory, smoothed_cross_entropy
from tests.common.tiny.hero import SPECIAL, word_tokenizer
from tests.parity.cases import Case

CONVERSIONS = TemporaryDirectory(prefix="hero-parity-")  # one conversion a checkpoint and test session
WORDS = [*SPECIAL, *(f"w{number}" for number in range(4, 104))]


@cache
def converted(checkpoint: Path, config: Path) -> Path:
    folder = Path(mkdtemp(dir=CONVERSIONS.name))
    word_tokenizer(WORDS).save_pretrained(folder / "tokenizer")
    convert(checkpoint, folder / "model", config=config, tokenizer=folder / "tokenizer")
    return folder / "model"


def folder_of(case: Case) -> Path:
    shared = case.checkpoint.with_name("multitask_tiny.model_config.json")
    return converted(case.checkpoint, shared if shared.exists() else case.original_config)


def load(auto: Any, case: Case, **options: Any) -> Any:
    return auto.from_pretrained(folder_of(case), **options).eval()


def raw(case: Case) -> dict[str, Any]:
    """The videos before they are batched; the cases of one seed share them."""
    return json.loads((case.path.parent / "retrieval" / "raw_videos.json").read_text())


def processor_of(case: Case) -> Any:
    processor = AutoProcessor.from_pretrained(folder_of(case))
    processor.max_frames, processor.context_subtitles = raw(case)["max_clip_len"], raw(case)["sub_ctx_len"]
    return processor


def words(ids: list[int]) -> str:
    return " ".join(WORDS[number] for number in ids)


def subtitles(video: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Texts and times from which the processor makes the ids and the matching of the case."""
    entries, end = [], 0.0
    for ids, (_, frames) in zip(video["subtitle_token_ids"], video["unique_sub2frames"], strict=True):
        start, end = (frames[0] * seconds, (frames[-1] + 1) * seconds) if frames else (end, end)
        entries.append({"text": words(ids), "start": start, "end": end})
    return entries


def videos(case: Case, names: list[str], features: Tensor, **texts: Any) -> dict[str, Tensor]:
    """Inputs by the processor from raw videos; `features` [videos, rows, width] may lack rows that are cut off."""
    facts = raw(case)
    chosen = [facts["videos"][name] for name in names]
    rows = []
    for video, one in zip(chosen, features, strict=True):
        padded = torch.zeros(video["n_frames"], one.shape[1])
        padded[: len(one)] = one[: video["n_frames"]]
        rows.append(padded)
    shown = [subtitles(video, facts["interval"]) for video in chosen]
    return processor_of(case)(video_features=rows, subtitles=shown, truncation=True, **texts)


def same_rows(case: Case, inputs: dict[str, Tensor], prefix: str = "") -> None:
    """The rectangular inputs hold the ids of the original's rows."""
    packed = case.inputs[f"{prefix}f_sub_input_ids"]
    there = inputs["subtitle_attention_mask"].any(dim=-1)
    mine = inputs["subtitle_input_ids"][there]
    assert torch.equal(mine, packed[: len(mine), : mine.shape[1]])


def compare(case: Case, found: dict[str, Tensor], expected: dict[str, Tensor] | None = None) -> None:
    """Every expected tensor was found, within the tolerance of the case."""
    expected = case.expected if expected is None else expected
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **case.tolerances, msg=lambda m, n=name: f"{n}: {m}")


def order(case: Case) -> list[str]:
    return case.meta.get("video_order", raw(case)["order"])


@torch.no_grad()
def check_encode(case: Case, tmp_path: Path) -> None:
    """Without the pooler, which no task reads. Rows are compared where they have tokens."""
    names = order(case)
    features = [case.inputs[f"features/{name}"] for name in names]
    inputs = videos(case, names, features)
    same_rows(case, inputs)
    row_mask = case.inputs["f_attn_masks"]
    token_mask = inputs["subtitle_attention_mask"]
    for attention in ("sdpa", "eager"):
        model = load(AutoModel, case, attn_implementation=attention)
        output = model(**inputs)
        cross = model.cross_modal_model
        shown, mask = inputs["frame_subtitles"], inputs["video_attention_mask"]
        embedded = cross.embed_frames(inputs["video_features"], shown)
        count = token_mask.shape[1]
        rows = torch.arange(len(names))[:, None] * count + torch.arange(count)
        positions = torch.arange(token_mask.shape[2]).repeat(len(names), count)
        ids = inputs["subtitle_input_ids"].flatten(1)
        frame_rows = torch.where(shown < 0, -1, rows.gather(1, shown.clamp(min=0)))
        token_rows = rows[..., None].masked_fill(token_mask == 0, -1).flatten(1)
        frames, tokens = cross(embedded, frame_rows, ids, positions, token_rows)
        text = cross.embeddings(ids, positions).unflatten(1, token_mask.shape[1:])[token_mask.any(-1)]
        found = {
            "f_encoder_last_hidden": original_rows(case, shown, frames, tokens, token_mask) * row_mask[..., None],
            "f_image_embeddings": original_frames(case, shown, embedded),
            "f_text_embeddings": text,
            "matched_frame_features": frames,
            "frame_transform": model.frame_transform(inputs["video_features"]),
            "repr_no_temporal": output.fused_frames,
            "repr": output.last_hidden_state,
        }
        expected = {name: value for name, value in case.expected.items() if name != "f_encoder_pooled"}
        expected["f_encoder_last_hidden"] = expected["f_encoder_last_hidden"] * row_mask[..., None]
        is_frame = original_frames(case, shown, torch.ones_like(embedded))
        expected["f_image_embeddings"] = expected["f_image_embeddings"] * is_frame
        compare(case, found, expected)
        for number, name in enumerate(names):  # alone, with the padding of the batch
            alone = videos(case, [name], [features[number]])
            longest = mask.shape[1] - alone["video_attention_mask"].shape[1]
            for key, value in (("video_features", 0), ("video_attention_mask", 0), ("frame_subtitles", -1)):
                pad = (0, 0) * (alone[key].ndim - 2) + (0, longest)
                alone[key] = torch.nn.functional.pad(alone[key], pad, value=value)
            found = {"repr": model(**alone).last_hidden_state[0]}
            compare(case, found, {"repr": case.expected["repr"][number]})


def original_rows(case: Case, shown: Tensor, frames: Tensor, tokens: Tensor, token_mask: Tensor) -> Tensor:
    """States in the original's layout, [rows, frames then text]."""
    rows = torch.zeros_like(case.expected["f_encoder_last_hidden"])
    number = 0
    tokens = tokens.unflatten(1, token_mask.shape[1:])
    for video, count in enumerate(case.meta["num_subs"]):
        for subtitle in range(count):
            own = frames[video, shown[video] == subtitle]
            start = max(len(own), 1)  # a subtitle without frames has a masked one
            text = tokens[video, subtitle, token_mask[video, subtitle] == 1]
            rows[number, : len(own)], rows[number, start : start + len(text)] = own, text
            number += 1
    return rows


def original_frames(case: Case, shown: Tensor, embedded: Tensor) -> Tensor:
    """Embeddings of frames by rows; 0 where a row has fewer frames."""
    rows = torch.zeros_like(case.expected["f_image_embeddings"])
    number = 0
    for video, count in enumerate(case.meta["num_subs"]):
        for subtitle in range(count):
            own = embedded[video, shown[video] == subtitle]
            rows[number, : len(own)] = own
            number += 1
    return rows


def queries(case: Case) -> list[str]:
    return [words(ids) for ids in case.meta["query_token_ids"].values()]


def retrieval_inputs(case: Case) -> dict[str, Tensor]:
    names = order(case)
    inputs = videos(case, names, case.inputs["c_v_feats"], text=queries(case))
    same_rows(case, inputs)
    processor = processor_of(case)
    lengths = inputs["video_attention_mask"].sum(dim=1).tolist()
    spans = [processor.span_frames(*span, length) for span, length in zip(case.meta["query_ts"].values(), lengths)]
    starts, ends = torch.tensor(spans).unbind(dim=1)
    assert torch.equal(torch.tensor(spans), case.inputs["targets"])
    assert torch.equal(inputs["input_ids"], case.inputs["query_input_ids"])
    return {**inputs, "start_positions": starts, "end_positions": ends}


@torch.no_grad()
def check_retrieval(case: Case, tmp_path: Path) -> None:
    inputs = retrieval_inputs(case)
    for attention in ("sdpa", "eager"):
        model = load(HeroForVideoTextRetrieval, case, attn_implementation=attention)
        output = model(**inputs, return_loss=True)
        text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        similarity = model.frame_similarity(output.text_embeds, output.frame_embeds)
        cross = model.span_logits(similarity, output.video_attention_mask)
        again = model(text_embeds=output.text_embeds, **encoded(output))
        assert torch.equal(again.logits_per_text, output.logits_per_text)
        weights = model.config.video_ranking_weight, model.config.query_ranking_weight
        assert weights == (case.meta["model_kwargs"]["lw_neg_ctx"], case.meta["model_kwargs"]["lw_neg_q"])
        scores, own = output.logits_per_text, case.inputs["q_vidx"]
        count, nothing = len(own), torch.zeros(len(own))
        by_video, by_query = (8 * value for value in moment_ranking_losses(scores, own))
        mask = inputs["attention_mask"][..., None]
        found = {
            "query_hidden": text.last_hidden_state * mask,
            "modularized_query": output.text_embeds,
            "frame_embeddings": output.frame_embeds,
            "video_scores": scores,
            "st_logits": output.start_logits,
            "ed_logits": output.end_logits,
            "st_logits_cross": cross[0],
            "ed_logits_cross": cross[1],
            "loss_sum_reduction/st_ed": output.span_loss * count,
            "loss_sum_reduction/neg_ctx": by_video,
            "loss_sum_reduction/neg_q": by_query,
            "loss_vr_sum_reduction/st_ed": nothing,
            "loss_vr_sum_reduction/neg_ctx": by_video,
            "loss_vr_sum_reduction/neg_q": by_query,
            "loss_mean/st_ed": output.span_loss,
        }
        for kind, name in (("hinge", "hinge"), ("lse", "log_sum_exp")):
            for pool in ({}, {"hard_pool_size": 2}, {"hard_pool_size": 1, "hard_negative_weight": 5.0}):
                size, weight = pool.get("hard_pool_size"), pool.get("hard_negative_weight", 10.0)
                label = f"loss_mean/{kind}/" + (f"hard_pool{size}_w{weight:.0f}" if pool else "easy")
                model.config.update({"ranking_loss": name, "hard_pool_size": 0, "hard_negative_weight": 10.0, **pool})
                output = model(**inputs, return_loss=True)
                found[f"{label}/neg_ctx"], found[f"{label}/neg_q"] = (
                    output.video_ranking_loss,
                    output.query_ranking_loss,
                )
        compare(case, found, {**case.expected, "query_hidden": case.expected["query_hidden"] * mask})


def encoded(output: Any) -> dict[str, Tensor]:
    return {name: output[name] for name in ("frame_embeds", "video_attention_mask")}


def answer_inputs(case: Case) -> dict[str, Tensor]:
    questions = case.meta["questions"]
    names = [question["vid"] for question in questions]
    texts = [question["input_ids"] for question in questions]
    features, given = case.inputs["c_v_feats"], {}
    if isinstance(texts[0][0], int):
        given["statement"] = list(map(words, texts))
    else:
        asked = case.kind == "video_qa"
        given["choices"] = [[*map(words, ids[1:] if asked else ids)] for ids in texts]
        given |= {"question": [words(ids[0]) for ids in texts]} if asked else {}
        features = features[:: len(given["choices"][0])]
    inputs = videos(case, names, features, **given)
    assert torch.equal(inputs["input_ids"].reshape(case.inputs["qa_input_ids"].shape), case.inputs["qa_input_ids"])
    return inputs


def choice_targets(case: Case, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    starts, ends = case.inputs["ts_targets"].unbind(dim=1)
    spans = []
    for question, mask in zip(case.meta["questions"], inputs["video_attention_mask"]):
        start, end = map(float, (question["ts"] or "nan-nan").split("-"))
        spans.append(processor_of(case).span_frames(start, end, int(mask.sum())))
    assert torch.equal(torch.tensor(spans), case.inputs["ts_targets"])
    return {"labels": case.inputs["targets"][:, 0], "start_positions": starts, "end_positions": ends}


def choice_parts(output: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
    question = cross_entropy(output.logits, targets["labels"])
    return {"qa_loss": question, "temporal_loss": (output.loss - question) / 0.4}


@torch.no_grad()
def check_multiple_choice(case: Case, tmp_path: Path) -> None:
    inputs = answer_inputs(case)
    targets = choice_targets(case, inputs)
    for attention in ("sdpa", "eager"):
        model = load(AutoModelForMultipleChoice, case, attn_implementation=attention)
        output = model(**inputs, **targets)
        found = {
            **choice_parts(output, targets),
            "logits": output.logits,
            "st_logits": output.start_logits,
            "ed_logits": output.end_logits,
            "fused_frames": output.last_hidden_state,
        }
        compare(case, found)


@torch.no_grad()
def check_violin(case: Case, tmp_path: Path) -> None:
    inputs, labels = answer_inputs(case), case.inputs["targets"][:, 0]
    for attention in ("sdpa", "eager"):
        model = load(AutoModelForSequenceClassification, case, attn_implementation=attention)
        output = model(**inputs, labels=labels)
        compare(case, {"logits": output.logits, "loss": output.loss})


def caption_inputs(case: Case) -> dict[str, Tensor]:
    """The videos in the order of the case, the segment of each caption, and the words of each caption."""
    names = list(dict.fromkeys(c["vid"] for c in case.meta["captions"]))
    captions = [words(c["caption_ids"]) for c in case.meta["captions"]]
    options = {}
    if case.meta["clip_ranges"]:
        options = {"segments": [[c["ts"] for c in case.meta["captions"] if c["vid"] == name] for name in names]}
    inputs = videos(case, names, case.inputs["c_v_feats"], captions=captions, **options)
    same_rows(case, inputs)
    if options:
        expected = [span for spans in case.meta["clip_ranges"] for span in spans]
        assert inputs["segments"].tolist() == expected
    targets = case.inputs["cap_tgt_ids"]
    assert torch.equal(inputs["labels"], targets.masked_fill(targets < 0, -100))
    return inputs


@torch.no_grad()
def check_captions(case: Case, tmp_path: Path) -> None:
    """Teacher forcing, and greedy words with and without cache, in the batch and alone."""
    inputs = caption_inputs(case)
    labels = inputs.pop("labels")
    for attention in ("sdpa", "eager"):
        model = load(AutoModelForImageTextToText, case, attn_implementation=attention)
        assert model.config.label_smoothing == case.meta["label_smoothing"]
        output = model(**inputs, labels=labels)
        assert torch.equal(model.shift_right(labels), case.inputs["cap_input_ids"])
        memory = model.get_memory(**inputs)
        per_word = [smoothed_cross_entropy(output.logits[place][None], word, 0.1) for place, word in words_of(labels)]
        found = {
            "encoder_outputs": memory.last_hidden_state,
            "encoder_mask": memory.video_attention_mask,
            "logits": output.logits,
            "loss_per_token": torch.stack(per_word),
            "loss": output.loss,
        }
        expected = {name: value for name, value in case.expected.items() if name != "greedy_ids_uncut"}
        compare(case, found, expected)
        # The original writes on behind the end token, and all columns compete.
        steps, greedy = case.meta["max_gen_step"], case.expected["greedy_ids_uncut"]
        options = {"max_new_tokens": steps, "eos_token_id": None, "suppress_tokens": None}
        for use_cache in (True, False):
            written = model.generate(**inputs, **options, use_cache=use_cache)
            assert torch.equal(written[:, 1:], greedy)
        for number in range(len(greedy)):
            alone = HeroCaptionMemory(**{name: value[number : number + 1] for name, value in memory.items()})
            assert torch.equal(model.generate(encoder_outputs=alone, **options)[0, 1:], greedy[number])
        written = model.generate(**inputs, max_new_tokens=steps, suppress_tokens=None)
        cut = [row[1 : row.index(2)] if 2 in row else row[1:] for row in written.tolist()]
        assert cut == case.meta["greedy_ids_cut_at_eos"]


def words_of(labels: Tensor) -> list[tuple[Any, Tensor]]:
    """Row and place of each word that counts, and the word."""
    return [((row, place), labels[row, place][None]) for row, place in (labels >= 0).nonzero().tolist()]


def check_train_step(case: Case, tmp_path: Path) -> None:
    """Values and all gradients of the tasks, with every dropout 0."""
    given = {name: Case((case.path / path).resolve()) for name, path in case.meta["inputs_from"].items()}
    choice, statement = answer_inputs(given["videoQA"]), answer_inputs(given["violin"])
    choice |= choice_targets(given["videoQA"], choice)
    statement = {**statement, "labels": given["violin"].inputs["targets"][:, 0]}
    tasks = {
        "vcmr": (HeroForVideoTextRetrieval, {**retrieval_inputs(given["vcmr"]), "return_loss": True}),
        "videoQA": (AutoModelForMultipleChoice, choice),
        "violin": (AutoModelForSequenceClassification, statement),
        "videoCap": (AutoModelForImageTextToText, caption_inputs(given["videoCap"])),
    }
    norms = case.read_json("grad_norms.json")
    found = {}
    for task, (auto, inputs) in tasks.items():
        model = load(auto, case).train()
        model.config.span_drop_probability = -1.0  # the span loss is always there
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        output = model(**inputs)
        output.loss.backward()
        found[f"{task}/total"] = output.loss
        if task == "vcmr":
            found |= {f"vcmr/{name}": output[ours] for name, ours in RANKING.items()}
        if task == "videoQA":
            parts = choice_parts(output, inputs)
            found |= {"videoQA/qa": parts["qa_loss"], "videoQA/temporal": parts["temporal_loss"]}
        found[f"{task}/grad_word_embeddings"] = model.get_input_embeddings().weight.grad
        found[f"{task}/grad_frame_transform"] = model.hero.frame_transform.dense.weight.grad
        layout = find_layout(norms[task])
        gradients = {layout.origin(name)[0]: value.grad for name, value in model.named_parameters()}
        for name, norm in norms[task].items():
            if norm is not None:
                own = gradients[name].norm().item()
                torch.testing.assert_close(own, norm, **case.tolerances, msg=lambda m, n=f"{task} {name}": f"{n}: {m}")
            elif gradients.get(name) is not None:
                assert not gradients[name].any(), (task, name)
    compare(case, found)


RANKING = {"st_ed": "span_loss", "neg_ctx": "video_ranking_loss", "neg_q": "query_ranking_loss"}


def check_vfeat_dim_change(case: Case, tmp_path: Path) -> None:
    """The new tensors are the original's, as far as they have a class; the others are told."""
    word_tokenizer(WORDS).save_pretrained(tmp_path / "tokenizer")
    config = case.checkpoint.with_name("multitask_tiny.model_config.json")
    size = str(case.meta["new_vfeat_dim"])
    options = {"config": config, "tokenizer": tmp_path / "tokenizer"}
    report = convert(case.checkpoint, tmp_path / "model", video_feature_size=size, **options)
    layout = find_layout([*report["dropped"], *report["renamed"]])
    new = {layout.origin(name)[0] for name in report["created"]}
    left = case.meta["keys_left_at_random_init"]
    assert new == {key for key in left if "no class yet" not in report["dropped"].get(key, "")}
    model = HeroForVideoTextRetrieval.from_pretrained(tmp_path / "model")
    for name, value in model.state_dict().items():
        key = layout.origin(name)[0]
        assert key not in left or list(value.shape) == left[key]["model_shape"]


CHECKS = {
    "encode": check_encode,
    "retrieval": check_retrieval,
    "video_qa": check_multiple_choice,
    "vlep": check_multiple_choice,
    "violin": check_violin,
    "caption_clips": check_captions,
    "caption_video": check_captions,
    "train_step": check_train_step,
    "vfeat_dim_change": check_vfeat_dim_change,
}
