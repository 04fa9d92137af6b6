"""One check for each kind of golden case, `check(case, tmp_path)`."""

from tests.parity.clipbert import loading, models, preprocessing

CHECKS = {**models.CHECKS, **preprocessing.CHECKS, **loading.CHECKS}
LATER = ("metrics", "optimiser_and_schedule")  # with training and evaluation
