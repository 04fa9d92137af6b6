"""One check for each kind of golden case, `check(case, tmp_path)`."""

from tests.parity.clipbert import loading, models, preprocessing, training

CHECKS = {**models.CHECKS, **preprocessing.CHECKS, **loading.CHECKS, **training.CHECKS}
