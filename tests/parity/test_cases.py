"""
Every golden case of every family that has a folder here. The folder gives one check a kind of case, `CHECKS`, and may
name kinds that come with a later issue, `LATER`, or never, with the reason, `LEFT_OUT`.
"""

import json
from importlib import import_module
from pathlib import Path

import pytest

from tests.parity.cases import REFERENCE, SHARED, Case, find_cases

FOLDERS = sorted(file.parent.name for file in Path(__file__).parent.glob("*/__init__.py"))
FAMILIES = {name: import_module(f"tests.parity.{name}") for name in FOLDERS}
CASES = [case for family in FAMILIES for case in find_cases(family)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.path.name}")
def test_case(case: Case, tmp_path):
    family = FAMILIES[case.family]
    if case.kind in getattr(family, "LATER", ()):
        pytest.skip(f"kind {case.kind!r} comes with a later issue")
    if reason := getattr(family, "LEFT_OUT", {}).get(case.kind):
        pytest.skip(reason)
    assert case.kind in family.CHECKS, f"{case.path}: no check for kind {case.kind!r}; known: {sorted(family.CHECKS)}"
    family.CHECKS[case.kind](case, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_cases_in_the_reference(family):
    assert any(case.path.parent == REFERENCE / family for case in CASES), f"no case.json under {REFERENCE / family}"


@pytest.mark.parametrize(
    ("stated", "tolerances"),
    [
        ({"tolerances": {"loss_atol": 1e-5}}, {"loss_atol": 1e-5}),
        ({"tolerance": {"atol": 1e-5, "rtol": 1e-4}}, {"atol": 1e-5, "rtol": 1e-4}),
        ({"tolerance": {"float32": {"atol": 1e-5, "rtol": 0}, "integers": "exact"}}, {"atol": 1e-5, "rtol": 0}),
        ({"tolerance": {"integers": "exact"}}, {}),
        ({"atol": 0, "rtol": 1e-4, "kind": "encode"}, {"atol": 0, "rtol": 1e-4}),
    ],
)
def test_tolerances_are_read_in_every_dialect(stated, tolerances, tmp_path):
    (tmp_path / "case.json").write_text(json.dumps(stated))
    assert Case(tmp_path).tolerances == tolerances


@pytest.mark.skipif(not (SHARED / "reference").is_dir(), reason="no shared/reference beside the repository")
def test_every_case_of_the_reference_can_be_read():
    cases = [Case(file.parent) for file in (SHARED / "reference").glob("*/*/case.json")]
    assert {case.family for case in cases} >= FAMILIES.keys()
    for case in cases:
        assert case.kind and isinstance(case.tolerances, dict), case.path
        if isinstance(case.meta.get("checkpoint"), str) or list(case.path.glob("checkpoint*.*")):
            assert case.checkpoint.is_file(), case.path
        if isinstance(case.meta.get("original_config"), str) or list(case.path.glob("original_config.*")):
            assert case.original_config.is_file(), case.path
