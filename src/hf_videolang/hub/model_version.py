"""Which version of a model made a result, so that two results can be told apart later."""

import hashlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

# of an evaluation, which may write into the model's folder
RESULTS, SIMILARITY = "results.json", "similarity.safetensors"


def model_version(model: str | Path, config: PreTrainedConfig) -> dict[str, Any]:
    """
    `{"model": …, "version": …}`: the Hub id and the commit, or the name of the folder and a hash of all that is in it
    (weights, config, processor, tokenizer) but the card and the results of an evaluation.

    Args:
        model: Hub id or folder.
        config: as loaded from there.
    """
    folder = Path(model)
    if not folder.is_dir():
        return {"model": str(model), "version": config._commit_hash}
    digest = hashlib.sha256()
    for path in sorted(folder.glob("[!.]*")):
        if path.is_file() and path.suffix != ".md" and path.name not in (RESULTS, SIMILARITY):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return {"model": folder.resolve().name, "version": f"sha256:{digest.hexdigest()}"}
