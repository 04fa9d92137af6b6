"""Golden cases of the processor: which frames, which pixels, which tokens."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from hf_videolang.models.clipbert.clip_windows_clipbert import window_indices
from hf_videolang.models.clipbert.processing_clipbert import ClipBertProcessor
from hf_videolang.models.clipbert.video_processing_clipbert import ClipBertVideoProcessor, is_extreme, resize_to_square
from hf_videolang.video.decode import decode_video
from tests.parity.cases import Case


def frame_numbers(frames: torch.Tensor) -> list[int]:
    """The number that each frame shows: nine stripes in its upper half, bright = 1, least significant bit left."""
    stripes = frames[:, :, : frames.shape[2] // 2].float().mean(dim=(1, 2)).chunk(9, dim=1)
    return sum((stripe.mean(dim=1) > 128).long() << bit for bit, stripe in enumerate(stripes)).tolist()


def check_frame_sampling(case: Case, tmp_path: Path) -> None:
    """From the files: the pictures that the processor reads show the numbers that the original picked."""
    record = case.read_json()
    assert len(record["calls"]) == len([name for name in case.expected if name.startswith("call_")])
    for number, call in enumerate(record["calls"]):
        assert not call["decode_failed"]
        processor = ClipBertVideoProcessor(num_frames=call["num_frm"], fps=call["fps"])
        place, clip = call.get("strategy"), call.get("clip_idx")
        path, seed = case.path / call["video"], None
        if place == "end":  # nothing published uses it, so the processor has no name for it
            picks = decode_video(
                path,
                lambda cut, call=call: window_indices(
                    cut, call["num_frm"], call["fps"], lambda free: [free * 2 / 3]
                ).flatten(),
            ).indices
            assert picks == call["result"], call
            continue
        if place == "rand":
            seed = call["python_random_seed"]
        elif place == "uniform":
            processor.sampling = "whole"
        elif place is not None:
            processor.single_clip = place
        else:
            processor.num_clips = call["num_clips"]
        frames = frame_numbers(processor.read_clip(path, seed))
        if clip is not None:
            frames = frames[clip * call["num_frm"] :][: call["num_frm"]]
        assert frames == call["result"] == case.expected[f"call_{number:03d}"].tolist(), call
    for number, call in enumerate(record["pure_functions"]):
        picks = np.linspace(0, call["clip_size"] - 1, call["num_samples"]).clip(0, call["decoded"] - 1)
        assert picks.astype(int).tolist() == case.expected[f"pure_{number:03d}"].tolist(), call
        if call["num_clips"] is None and call["seed"] is not None:
            free = max(call["video_size"] - call["clip_size"], 0)
            assert random.Random(call["seed"]).uniform(0, free) == pytest.approx(call["start_idx"])


def check_frame_resize_pad(case: Case, tmp_path: Path) -> None:
    """Through a saved and reloaded processor, which shows that its options are saved."""
    for name, frames in case.inputs.items():
        _, number, _, side = name.split("_")
        ClipBertVideoProcessor(size={"longest_edge": int(side)}).save_pretrained(tmp_path / name)
        processor = ClipBertVideoProcessor.from_pretrained(tmp_path / name)
        for kind, normalise in (("resized_padded", False), ("normalised", True)):
            if (expected := case.expected.get(f"{kind}_{number}")) is not None:
                batch = processor(frames, do_sample_frames=False, do_normalize=normalise, return_tensors="pt")
                torch.testing.assert_close(batch["pixel_values_videos"][0, 0], expected, **case.tolerances)
        white = resize_to_square(torch.ones_like(frames[0], dtype=torch.float32), int(side))[0] > 0
        assert [int(white[:, 0].sum()), int(white[0].sum())] == case.expected[f"resize_size_{number}"].tolist()
    for shape, expected in case.meta["extreme_aspect_ratio_skipped"].items():
        height, width = map(int, shape.split("x"))
        assert is_extreme(height, width) == expected


def check_text_batching(case: Case, tmp_path: Path) -> None:
    """Masks of words and groups of texts come with pre-training."""
    record, expected = case.read_json(), case.expected
    tokenizer = BertTokenizer(vocab=str(case.path / "vocab.txt"), model_max_length=24)
    ClipBertProcessor(ClipBertVideoProcessor(), tokenizer, max_length=record["max_length"]).save_pretrained(tmp_path)
    processor = ClipBertProcessor.from_pretrained(tmp_path)
    batches = {
        "retrieval": processor(text=record["retrieval_texts"]),
        "open_ended": processor(text=record["questions"]),
        "action": processor(text=record["questions"], choices=record["options"]),
        "msrvtt_mc": processor(choices=record["mc_options"]),
    }
    for name, batch in batches.items():
        assert set(batch) == {"input_ids", "attention_mask"}
        for key, value in batch.items():
            assert torch.equal(value.reshape(-1, record["max_length"]), expected[f"{name}_{key}"]), (name, key)


CHECKS = {
    "frame_sampling": check_frame_sampling,
    "frame_resize_pad": check_frame_resize_pad,
    "text_batching": check_text_batching,
}
