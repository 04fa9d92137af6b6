"""Which version of a model produced a result."""

import hashlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

RESULTS, SIMILARITY = "results.json", "similarity.safetensors"  # an evaluation may write them into the model's folder


def model_version(model: str | Path, config: PreTrainedConfig) -> dict[str, Any]:
    """
    Args:
        model: Hub id or folder.
        config: as loaded from there.

    Returns:
        `{"model": …, "version": …}`: the Hub id and the commit; or the folder's name and a hash of its files (weights,
        config, processor, tokenizer), except the card and the results of an evaluation.
    """
    folder = Path(model)
    if not folder.is_dir():
        return {"model": str(model), "version": config._commit_hash}
    digest = hashlib.sha256()
    for path in sorted(folder.glob("[!._]*")):
        if path.is_file() and path.suffix != ".md" and path.name not in (RESULTS, SIMILARITY):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return {"model": folder.resolve().name, "version": f"sha256:{digest.hexdigest()}"}
