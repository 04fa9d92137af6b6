"""A label for each second, from the states of overlapping windows, as the original's predictor for COIN gives it."""

from pathlib import Path

import torch

from hf_videolang.inference.segmentation import background_threshold, label_seconds, merge_windows, window_starts
from tests.parity.cases import Case


def check_coin_zero_shot(case: Case, tmp_path: Path) -> None:
    vectors, window = case.inputs["label_vectors"], case.meta["sliding_window_size"]
    assert case.meta["sliding_window"] == window // 2
    threshold = background_threshold(vectors)
    torch.testing.assert_close(torch.tensor([threshold]), case.expected["lambda"], **case.tolerances)
    zero_shot, supervised = [], []
    for number, video in enumerate(case.meta["videos"]):
        seconds = video["video_len"]
        starts = window_starts(seconds, window)
        assert len(starts) == video["windows"]
        states, logits = (case.inputs[f"video{number}.{name}"] for name in ("token_states", "supervised_logits"))
        scores = merge_windows(list(states[:, 1:-1]), starts, seconds) @ vectors.T
        torch.testing.assert_close(scores, case.expected[f"video{number}.merged_logits"], **case.tolerances)
        zero_shot.append(label_seconds(scores, threshold) + 1)
        supervised.append(label_seconds(merge_windows(list(logits), starts, seconds)))
    assert torch.equal(torch.cat(zero_shot), case.expected["predictions"])
    assert torch.equal(torch.cat(supervised), case.expected["supervised_predictions"])


CHECKS = {"coin_zero_shot": check_coin_zero_shot}
