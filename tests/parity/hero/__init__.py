"""One check a kind of golden case: `check(case, tmp_path)` raises AssertionError where the port departs from it."""

from tests.parity.hero import metrics, models, optimisation, preprocessing, variants

CHECKS = {
    **models.CHECKS,
    **variants.CHECKS,
    **preprocessing.CHECKS,
    **metrics.CHECKS,
    **optimisation.CHECKS,
}
# Pre-training and the rest of VALUE.
LATER = (
    "meta_ave",
    "pretrain_objectives",
    "task_sampler",
)
