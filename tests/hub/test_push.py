"""Pushing (the upload itself: test_hub_round_trip.py)."""

from types import SimpleNamespace

import pytest
from huggingface_hub.utils import filter_repo_objects

from hf_videolang.hub import push
from hf_videolang.hub.push import push_folder

MODEL = ["config.json", "model.safetensors", "tokenizer.json", "special_tokens_map.json", "README.md", "modeling_x.py"]
PRIVATE = [".env", "sub/.env", "token", "hf_token", "id.pem", "_lock", "optimizer.pt", "rng_state_0.pth"]
PRIVATE += [
    "training_args.bin",
    "checkpoint-3/config.json",
    "checkpoint-3/optimizer.pt",
    "sub/checkpoint-9/model.safetensors",
]


class Api:
    """Uploads what huggingface_hub would upload."""

    def create_repo(self, repo_id, exist_ok):
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id, folder_path, commit_message, ignore_patterns):
        paths = [path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*") if path.is_file()]
        return SimpleNamespace(commit_url=sorted(filter_repo_objects(paths, ignore_patterns=ignore_patterns)))


def test_a_folder_without_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no model \(expected config.json and \*.safetensors, not links"):
        push_folder(tmp_path, "org/name")
    (tmp_path / "elsewhere").touch()
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="not links to them"):
        push_folder(tmp_path, "org/name")


def test_private_files_and_links_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(push, "HfApi", Api)
    folder = tmp_path / "model"
    for name in (*MODEL, *PRIVATE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (tmp_path / "secret.txt").touch()
    (folder / "notes [1].txt").symlink_to(tmp_path / "secret.txt")
    (folder / "notes 1.txt").touch()
    assert push_folder(folder, "org/name") == sorted([*MODEL, "notes 1.txt"])
