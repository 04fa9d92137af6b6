"""Golden cases: folders with a `case.json`, inputs and outputs of the original system, perhaps a checkpoint."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
REFERENCE = Path(os.environ.get("HF_VIDEOLANG_REFERENCE", REPOSITORY / "tests" / "fixtures"))


@dataclass(frozen=True)
class Case:
    """One golden case. All that a check needs comes from its files."""

    path: Path

    @property
    def family(self) -> str:
        return self.path.parent.name

    @cached_property
    def meta(self) -> dict:
        """`case.json`: kind, tolerances, shapes, options."""
        return self.read_json("case.json")

    @property
    def kind(self) -> str:
        return self.meta["kind"]

    @property
    def tolerances(self) -> dict:
        """
        What `case.json` allows: its named tolerances, or `atol` and `rtol` of all floats.

        It says so in one of three ways: `tolerances: {name: value}`; `tolerance: {atol, rtol}`, perhaps as
        `{"float32": {atol, rtol}, "integers": "exact"}`; `atol` and `rtol` on top.
        """
        if "tolerances" in self.meta:
            return self.meta["tolerances"]
        stated = self.meta.get("tolerance", self.meta)
        stated = stated.get("float32", stated)
        return {name: stated[name] for name in ("atol", "rtol") if name in stated}

    @cached_property
    def inputs(self) -> dict[str, torch.Tensor]:
        return load_file(self.path / "inputs.safetensors")

    @cached_property
    def expected(self) -> dict[str, torch.Tensor]:
        return load_file(self.path / "expected.safetensors")

    def read_json(self, name: str = "expected.json") -> Any:
        return json.loads((self.path / name).read_text())

    @property
    def checkpoint(self) -> Path:
        """The original checkpoint: the one that `case.json` names, in any folder, or the one that lies here."""
        if "checkpoint" in self.meta:
            return (self.path / self.meta["checkpoint"]).resolve()
        (found,) = list(self.path.glob("checkpoint*.*")) or list(self.path.glob("*.pt*"))
        return found

    @property
    def original_config(self) -> Path:
        """The original's config: the one that `case.json` names, or the one beside the checkpoint."""
        for key in ("config", "original_config"):
            if isinstance(name := self.meta.get(key), str):
                return (self.path / name).resolve()
        (found,) = self.checkpoint.parent.glob("original_config.*")
        return found


def find_cases(family: str) -> list[Case]:
    """
    The cases of a family, by name.

    They are those under `HF_VIDEOLANG_REFERENCE` (default `tests/fixtures`), and further ones in `shared/reference`
    beside the repository. No clone has these; they are too large for it.
    """
    found: dict[str, Case] = {}
    for root in (SHARED / "reference", REFERENCE):
        found |= {file.parent.name: Case(file.parent) for file in (root / family).glob("*/case.json")}
    return [found[name] for name in sorted(found)]
