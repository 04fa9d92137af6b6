"""Push a finished folder to the Hub."""

from pathlib import Path

from huggingface_hub import HfApi


def push_folder(folder: str | Path, repo_id: str) -> str:
    """
    Upload a model folder in one commit. Creates the repository if it does not exist.

    Args:
        folder: what `save_pretrained` or `hf-videolang convert` wrote.
        repo_id: `"ORGANISATION/NAME"`, or `"NAME"` in the user's own namespace.

    Returns:
        URL of the commit.

    Raises:
        ValueError: the folder holds no model.

    Example:
        >>> push_folder("clip-vip-b16", "me/clip-vip-b16")
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds no model (expected config.json and *.safetensors); save one there with "
            "model.save_pretrained(folder) first."
        )
    api = HfApi()
    repo_id = api.create_repo(repo_id, exist_ok=True).repo_id
    return api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Upload {folder.name}").commit_url
