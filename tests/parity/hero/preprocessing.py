"""Subtitles, spans and batches as the original's data pipeline makes them."""

import json
from pathlib import Path

import torch

from hf_videolang.models.hero.processing_hero import HeroProcessor
from hf_videolang.models.hero.subtitle_matching_hero import cut_frames, group_frames, match_frames
from hf_videolang.video.subtitles import read_subtitle_lines
from tests.common.tiny.hero import SPECIAL, word_tokenizer
from tests.parity.cases import Case


def pairs(matched: list[int], count: int) -> list[list]:
    """Subtitle → frames, as the original writes it."""
    return [[one, [frame for frame, shown in enumerate(matched) if shown == one]] for one in range(count)]


def check_data_pipeline(case: Case, tmp_path: Path) -> None:
    subtitles, vocabulary = read_subtitle_lines(case.path / "subtitles.jsonl"), case.read_json("vocab.json")
    frames, seconds = case.read_json("id2nframe.json"), case.meta["interval"]
    size = max(vocabulary.values()) + 1
    words = [*SPECIAL, *(f"unused{number}" for number in range(4, size))]
    for word, number in vocabulary.items():
        words[number] = word
    processor = HeroProcessor(word_tokenizer(words), context_subtitles=1)

    matching, cuts = case.read_json("matching.json"), case.read_json("cut.json")
    for name, entries in subtitles.items():
        matched = match_frames(entries, frames[name], seconds)
        if expected := matching[name]["frame2unique_sub"]:
            assert {str(frame): one for frame, one in enumerate(matched) if one >= 0} == expected
            assert [frame for frame, one in enumerate(matched) if one < 0] == matching[name]["unmatched_frames"]
        else:
            matched = group_frames(frames[name], case.meta["nframe_group"])
        for longest in (100, 5):
            kept, shown = cut_frames(matched, max(len(entries), max(matched) + 1), longest)
            expected = cuts[f"max_clip_len_{longest}"]
            found = pairs(shown, len(kept))
            assert [[kept[row], own] for row, own in found] == expected["vid_sub2frame"][name]
            unmatched = [frame for frame, one in enumerate(shown) if one < 0]
            assert unmatched == expected["frames_without_subtitle"][name]
            assert len(shown) == expected["id2len"][name]

    for span in json.loads((case.path / "spans.json").read_text()):
        start, end = map(float, span["ts"].split("-")) if isinstance(span["ts"], str) else span["ts"]
        found = processor.span_frames(start, end, span["n_frames"])
        assert list(found) == span["qa_string"] == span.get("vcmr_or_qa", span["qa_string"])

    processor.max_frames = 5
    names = case.meta["video_order"]
    features = []
    for name in names:
        both = [case.inputs[f"feat_{kind}/{name}"].float() for kind in ("2d", "3d")]
        count = min(map(len, both))
        features.append(torch.cat([one[:count] for one in both], dim=1))
    batch = processor(video_features=features, subtitles=[subtitles[name] for name in names], truncation=True)
    expected = case.expected
    there = batch["subtitle_attention_mask"].any(dim=-1)
    assert torch.equal(batch["subtitle_input_ids"][there], expected["f_sub_input_ids"])
    assert torch.equal(batch["subtitle_attention_mask"][there], expected["f_sub_attn_masks"])
    assert torch.equal(batch["video_features"], expected["c_v_feats"])
    assert torch.equal(batch["video_attention_mask"], expected["c_attn_masks"])
    assert there.sum(dim=1).tolist() == case.meta["num_subs"]
    for row, own in enumerate(case.meta["sub_idx2frame_idx"]):
        assert pairs(batch["frame_subtitles"][row].tolist(), len(own)) == own
    # What the original packs, the model makes of these: frames in their order, then the text.
    row = 0
    for video, own in enumerate(case.meta["sub_idx2frame_idx"]):
        for subtitle, shown in own:
            count = int(batch["subtitle_attention_mask"][video, subtitle].sum())
            assert torch.equal(expected["f_v_feats"][row, : len(shown)], batch["video_features"][video, shown])
            mask = [int(bool(shown))] * max(len(shown), 1) + [1] * count
            assert expected["f_attn_masks"][row].tolist() == mask + [0] * (
                expected["f_attn_masks"].shape[1] - len(mask)
            )
            row += 1


CHECKS = {"data_pipeline": check_data_pipeline}
