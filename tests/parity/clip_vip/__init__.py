"""One check for each kind of golden case, `check(case, tmp_path)`."""

from tests.parity.clip_vip import losses, metrics, optimization, preprocessing, towers

CHECKS = {**towers.CHECKS, **preprocessing.CHECKS, **losses.CHECKS, **metrics.CHECKS, **optimization.CHECKS}
