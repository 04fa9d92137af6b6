"""Push a finished folder to the Hub."""

from glob import escape
from pathlib import Path

from huggingface_hub import HfApi

LEFT_OUT = (
    *(".*", "_*", "token", "*_token", "*.token", "*.key", "*.pem", "checkpoint-*"),
    *("optimizer*", "scheduler.pt", "rng_state*", "pytorch_model_fsdp*"),
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
    links = [escape(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_symlink()]
    needed = [path for path in (folder / "config.json", *folder.glob("*.safetensors")) if path.is_file()]
    if len(needed) < 2 or any(path.is_symlink() for path in needed):
        raise ValueError(
            f"{folder} holds no model (expected config.json and *.safetensors, not links to them); save one there "
            "with model.save_pretrained(folder) first."
        )
    ignored = [pattern for name in (*LEFT_OUT, *links) for pattern in (name, f"*/{name}", f"{name}/*")]
    api = HfApi()
    repo_id = api.create_repo(repo_id, exist_ok=True).repo_id
    message = f"Upload {folder.name}"
    return api.upload_folder(
        repo_id=repo_id, folder_path=folder, commit_message=message, ignore_patterns=ignored
    ).commit_url
