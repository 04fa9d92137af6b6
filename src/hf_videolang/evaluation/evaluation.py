"""The result of an evaluation: scores, and all that says how they were measured."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.protocol import Protocol
from hf_videolang.data.stores.provenance import differences
from hf_videolang.evaluation.saved_similarity import SavedSimilarity
from hf_videolang.evaluation.scores import Scores, protocol_line, score_table
from hf_videolang.hub.evaluation_results import write_evaluation
from hf_videolang.hub.model_version import RESULTS, SIMILARITY


@dataclass(frozen=True)
class Evaluation:
    """
    Attributes:
        model, version: see `model_version`; `model` is the folder or Hub id as it was given.
        protocol: of the dataset.
        settings: what the model saw, and how scores are counted.
        scores: column → group → metric → value.
        save_details: writes the similarities or predictions that the scores come from into a folder.
        summary: further entries of results.json.

    `str()` of it is what a person reads: the protocol, then the table.
    """

    model: str
    version: str
    protocol: Protocol
    settings: Mapping[str, Any]
    scores: Scores
    save_details: Callable[[Path], None]
    summary: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_similarity(cls, saved: SavedSimilarity, scores: Scores, ties: str) -> "Evaluation":
        """Scores of a matrix with this rule for `ties`."""
        settings = {**saved.settings, "ties": ties, "post-processing": saved.post_processing}
        facts = saved.model, saved.version, saved.protocol, settings
        return cls(*facts, scores, lambda folder: saved.save(folder / SIMILARITY))

    @property
    def line(self) -> str:
        return f"{self.model} on {protocol_line(self.protocol, self.settings)}"

    def __str__(self) -> str:
        return f"{self.line}\n\n{score_table(self.scores)}"

    def save(self, folder: Path, overwrite: bool = False) -> None:
        """
        Write results.json and the details. Results of another protocol are replaced only if `overwrite` says so.

        Raises:
            ValueError: as [`check_earlier_results`].
        """
        if not overwrite:
            check_earlier_results(folder, self.version, self.protocol, self.settings)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_details(folder)
        results = {
            "line": self.line,
            "model": self.model,
            "version": self.version,
            "dataset": asdict(self.protocol),
            "settings": self.settings,
            "scores": self.scores,
            **self.summary,
        }
        with atomic_file(folder / RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")

    def write_card(self) -> None:
        """Enter the scores into the model's card. Errors are those of `write_evaluation`."""
        write_evaluation(
            self.model,
            dataset=self.protocol.name,
            split=self.protocol.split,
            scores=self.scores,
            protocol={**self.protocol.facts, **self.settings},
            task=self.protocol.task,
        )


def check_earlier_results(
    folder: Path, version: str, protocol: Protocol, settings: Mapping[str, Any], finished: bool = True
) -> None:
    """
    Check that an evaluation may overwrite the results in `folder`, because both follow the same protocol.

    Args:
        folder: of the output. Nothing is checked if it has no results.json.
        version: of the model.
        protocol: of the dataset.
        settings: what the model sees and how scores are counted.
        finished (defaults to `True`): `settings` are complete. Before the work some are unknown, and only those given
            are compared.

    Raises:
        ValueError: the results are those of another version, dataset or protocol. The message lists the differences.
    """
    file = folder / RESULTS
    if not file.is_file():
        return
    results = json.loads(file.read_text(encoding="utf-8"))
    now = {"version": version, **asdict(protocol), **settings}
    earlier = {"version": results["version"], **results["dataset"], **results["settings"]}
    if not finished:
        earlier = {name: value for name, value in earlier.items() if name in now}
    if differing := differences(earlier, now):
        raise ValueError(
            f"{file} holds results of another protocol ({'; '.join(differing)}). Choose another --output-dir, or "
            "replace them with --overwrite."
        )
