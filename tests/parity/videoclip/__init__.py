"""One check a kind of golden case: `check(case, tmp_path)` raises AssertionError where the port departs from it."""

from tests.parity.videoclip import features, losses, towers

CHECKS = {**towers.CHECKS, **losses.CHECKS, **features.CHECKS}
LATER = (
    "overlapped_sampling",
    "retrieval_batches",
    "caption_dedup",
    "downstream_layout",
    "coin_zero_shot",
    "crosstask_predict",
    "metrics",
    # VLM's own pre-training has no user, and is not our mission.
    "vlm_mtm",
)
