"""One check a kind of golden case: `check(case, tmp_path)` raises AssertionError where the port departs from it."""

from tests.parity.clip_vip import losses, metrics, optimization, preprocessing, towers

CHECKS = {**towers.CHECKS, **preprocessing.CHECKS, **losses.CHECKS, **metrics.CHECKS, **optimization.CHECKS}
