"""Golden cases of the processor: which frames, which pixels, which tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from hf_videolang.video.sampling import uniform_indices
from tests.parity.cases import SHARED, Case


def check_frame_sampling(case: Case, tmp_path: Path) -> None:
    """The rows under "interval" (`sample_rate` > 0) are not checked: no published configuration samples so."""
    for row in case.meta["uniform"]:
        jitter = row["mode"] == "train" and row["sample_jitter"]
        generator = np.random.RandomState(row["seed"]) if jitter else None
        if isinstance(row["indices"], str):  # the original's exception
            with pytest.raises(ValueError, match="jitter needs at least 2 frames"):
                uniform_indices(row["total_frames"], row["num_frames"], generator)
        else:
            indices = uniform_indices(row["total_frames"], row["num_frames"], generator)
            assert indices.tolist() == row["indices"], row


def check_preprocess(case: Case, tmp_path: Path) -> None:
    """Through a saved and reloaded processor, which shows that its options are saved."""
    height, width = case.meta["input_res"]
    for name, expected in case.expected.items():
        variant, _, resolution = name.rpartition("_")
        CLIPViPVideoProcessor(
            size={"height": height, "width": width},
            image_mean=case.meta["mean"],
            image_std=case.meta["std"],
            antialias={"antialias": True, "no_antialias": False}[variant],
        ).save_pretrained(tmp_path / name)
        processor = CLIPViPVideoProcessor.from_pretrained(tmp_path / name)
        frames = case.inputs[f"frames_{resolution}"]
        pixels = processor(frames, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
        torch.testing.assert_close(pixels[0], expected, rtol=0, **case.tolerances)


def check_tokenization(case: Case, tmp_path: Path) -> None:
    """With the published vocabulary, in a tokenizer that would pad with another token."""
    folder = SHARED / "data" / "tokenizers" / "clip"
    if not folder.is_dir():
        pytest.skip(f"the published CLIP vocabulary is not here ({folder})")
    tokenizer = CLIPTokenizer.from_pretrained(folder, pad_token="<|startoftext|>")
    for max_length in sorted({row["max_length"] for row in case.meta["rows"]}):
        CLIPViPProcessor(CLIPViPVideoProcessor(), tokenizer, max_length=max_length).save_pretrained(tmp_path)
        processor = CLIPViPProcessor.from_pretrained(tmp_path)
        rows = [row for row in case.meta["rows"] if row["max_length"] == max_length]
        batch = processor(text=[row["text"] for row in rows])
        for row, input_ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            assert input_ids.tolist() == row["input_ids"], row["text"]
            assert mask.tolist() == [1] * row["num_tokens"] + [0] * (max_length - row["num_tokens"]), row["text"]


CHECKS = {
    "frame_sampling": check_frame_sampling,
    "preprocess": check_preprocess,
    "tokenization": check_tokenization,
}
