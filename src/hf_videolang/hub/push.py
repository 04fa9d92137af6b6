"""Push a finished folder to the Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

LEFT_OUT = (
    *(".*", "_*", "token", "*_token", "*.token", "*.key", "*.pem", "checkpoint-*"),
    *("optimizer*", "scheduler.pt", "rng_state*", "pytorch_model_fsdp*"),
    "training_args.bin",  # may hold `hub_token`
)


def push_folder(folder: str | Path, repo_id: str) -> str:
    """
    Upload a model folder in one commit. Creates the repository if it does not exist.

    Hidden files, tokens and keys, checkpoints of a run and their optimiser, and links stay where they are.

    Args:
        folder: what `save_pretrained` or `hf-videolang convert` wrote.
        repo_id: `"ORGANISATION/NAME"`, or `"NAME"` in the user's own namespace.

    Returns:
        URL of the commit.

    Raises:
        ValueError: the folder holds no model, or only links to one.

    Example:
        >>> push_folder("clip-vip-b16", "me/clip-vip-b16")
    """
    folder = Path(folder)
    needed = [path for path in (folder / "config.json", *folder.glob("*.safetensors")) if path.is_file()]
    if len(needed) < 2 or any(path.is_symlink() for path in needed):
        raise ValueError(
            f"{folder} holds no model (expected config.json and *.safetensors, not links to them); save one there "
            "with model.save_pretrained(folder) first."
        )
    api = HfApi()
    repo_id = api.create_repo(repo_id, exist_ok=True).repo_id
    message = f"Upload {folder.name}"
    return api.upload_folder(
        repo_id=repo_id, folder_path=folder, commit_message=message, ignore_patterns=_private(folder)
    ).commit_url


@contextmanager
def private_files_stay(api: HfApi) -> Iterator[None]:
    """
    Within the block, `api.upload_folder` leaves out what `push_folder` leaves out, whoever calls it. A checkpoint that
    is uploaded as such, for `hub_strategy`, stays whole.
    """
    upload = api.upload_folder

    def upload_public(*, folder_path: str, ignore_patterns: list[str] | None = None, **kwargs: Any) -> Any:
        patterns = None if ignore_patterns is None else [*ignore_patterns, *_private(Path(folder_path))]
        return upload(folder_path=folder_path, ignore_patterns=patterns, **kwargs)

    api.upload_folder = upload_public  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del api.upload_folder


def _private(folder: Path) -> list[str]:
    """Patterns of what is not uploaded."""
    links = [escape(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_symlink()]
    return [pattern for name in (*LEFT_OUT, *links) for pattern in (name, f"*/{name}", f"{name}/*")]
