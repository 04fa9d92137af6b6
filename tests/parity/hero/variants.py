"""Other fusions, single channels and CLIP-Enhanced, against the original's modules."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel

from hf_videolang.models.hero.modeling_hero import HeroForVideoTextRetrieval
from tests.parity.cases import Case
from tests.parity.hero.models import compare, load, original_rows, processor_of, raw, same_rows, subtitles


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


CHECKS = {"fusion": check_fusion, "single_channel": check_single_channel}
