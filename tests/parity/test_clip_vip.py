"""
Every golden case of CLIP-ViP, through the public path. An unknown kind fails. What is skipped says why: the tokenization
case needs the published vocabulary, and the larger cases the reference folder, which no clone has.
"""

import pytest

from tests.parity.cases import SHARED, Case, discover, reference_root
from tests.parity.clip_vip import CHECKS

CASES = discover("clip_vip", reference_root())
MORE_CASES = [
    case
    for case in discover("clip_vip", SHARED / "reference")
    if case.path.name not in {known.path.name for known in CASES}
]


def check(case: Case, tmp_path):
    assert case.kind in CHECKS, f"{case.path}: no check for kind {case.kind!r}; known: {sorted(CHECKS)}"
    CHECKS[case.kind](case, tmp_path)


def test_cases_were_found():
    assert CASES, f"no case.json under {reference_root() / 'clip_vip'}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.name)
def test_case(case: Case, tmp_path):
    check(case, tmp_path)


@pytest.mark.skipif(not MORE_CASES, reason="no further cases in shared/reference beside the repository")
@pytest.mark.parametrize("case", MORE_CASES, ids=lambda case: case.path.name)
def test_case_too_large_for_the_repository(case: Case, tmp_path):
    check(case, tmp_path)
