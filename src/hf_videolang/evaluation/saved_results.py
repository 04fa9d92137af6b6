"""The results of an earlier evaluation in a folder: another protocol must not overwrite them unasked."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_videolang.data.protocol import Protocol
from hf_videolang.data.stores.provenance import differences


def check_earlier_results(
    file: Path, version: str, protocol: Protocol, settings: Mapping[str, Any], finished: bool
) -> None:
    """
    Check that an evaluation may overwrite the results in `file`, because both follow the same protocol.

    Args:
        file: the results.json of `hf-videolang evaluate`; nothing is checked if there is none.
        version: of the model.
        protocol: of the dataset.
        settings: what the model sees and how scores are counted.
        finished: `settings` are complete. Before the work some are unknown, and only those given are compared.

    Raises:
        ValueError: the results are those of another version, dataset or protocol. The message lists the differences.
    """
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
