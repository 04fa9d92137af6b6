"""Golden cases: folders with `case.json`, `inputs.safetensors`, `expected.safetensors` and perhaps a checkpoint."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"


def reference_root() -> Path:
    """Folder with one sub-folder a family, from `HF_VIDEOLANG_REFERENCE` (default `tests/fixtures`)."""
    return Path(os.environ.get("HF_VIDEOLANG_REFERENCE", REPOSITORY / "tests" / "fixtures"))


@dataclass(frozen=True)
class Case:
    """One golden case; everything a check needs comes from its files."""

    path: Path

    @cached_property
    def meta(self) -> dict:
        """`case.json`: kind, tolerances, shapes, options."""
        return json.loads((self.path / "case.json").read_text())

    @property
    def kind(self) -> str:
        return self.meta["kind"]

    @property
    def tolerances(self) -> dict:
        return self.meta["tolerances"]

    @cached_property
    def inputs(self) -> dict[str, torch.Tensor]:
        return load_file(self.path / "inputs.safetensors")

    @cached_property
    def expected(self) -> dict[str, torch.Tensor]:
        return load_file(self.path / "expected.safetensors")

    @property
    def checkpoint(self) -> Path:
        """The original checkpoint, named relative to the case's folder (it may lie in another case's)."""
        return (self.path / self.meta["checkpoint"]).resolve()

    @property
    def original_config(self) -> Path:
        """The original's JSON config beside the checkpoint, or the one that `case.json` names."""
        return (self.path / self.meta.get("config", self.checkpoint.parent / "original_config.json")).resolve()


def discover(family: str, root: Path) -> list[Case]:
    """Every case folder of a family under `root`, by name."""
    return [Case(file.parent) for file in sorted((root / family).glob("*/case.json"))]
