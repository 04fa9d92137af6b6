"""One check a kind of golden case: `check(case, tmp_path)` raises AssertionError where the port departs from it."""

from tests.parity.hero import metrics, models, optimisation, preprocessing, variants

CHECKS = {
    **models.CHECKS,
    **variants.CHECKS,
    **preprocessing.CHECKS,
    **metrics.CHECKS,
    **optimisation.CHECKS,
}
# Captions, pre-training and the rest of VALUE.
LATER = (
    "caption_clips",
    "caption_video",
    "eval_captioning",
    "meta_ave",
    "pretrain_objectives",
    "task_sampler",
)
