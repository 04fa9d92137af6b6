"""One check a kind of golden case: `check(case, tmp_path)` raises AssertionError where the port departs from it."""

from tests.parity.videoclip import features, losses, segmentation, towers

CHECKS = {**towers.CHECKS, **losses.CHECKS, **features.CHECKS, **segmentation.CHECKS}
LATER = (
    "overlapped_sampling",
    "retrieval_batches",
    "caption_dedup",
    "downstream_layout",
    "crosstask_predict",
    "metrics",
)
LEFT_OUT = {"vlm_mtm": "VLM's own pre-training has no user, and is not our mission"}
