"""A similarity matrix on disk with everything that its scores need: model, dataset, settings."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.protocol import Protocol
from hf_videolang.hub.loading import errors_naming
from hf_videolang.hub.model_version import model_version
from hf_videolang.metrics import Product


@dataclass(frozen=True)
class SavedSimilarity:
    """
    Attributes:
        model: folder or Hub id.
        version: see `model_version`.
        protocol: of the dataset.
        settings: what the model saw, see `RetrievalEvaluator`.
        tensors: the arguments of `score_similarity`. A [`Product`] is saved as its factors, the embeddings:
            `similarity.left` `[texts, dim]` and `similarity.right` `[videos, dim]`.

    Example:
        >>> saved = SavedSimilarity.read("results/similarity.safetensors")
        >>> score_similarity(**saved.tensors, ties="pessimistic")
    """

    model: str
    version: str
    protocol: Protocol
    settings: dict[str, str | int]
    tensors: dict[str, Any]

    @property
    def post_processing(self) -> str:
        """The post-processed columns, for the line above the table."""
        used = ["DSL over all texts of the split"] if self.tensors.get("is_cosine", True) else []
        if "text_bank" in self.tensors:
            texts, videos = len(self.tensors["text_bank"]), len(self.tensors["video_bank"])
            used.append(f"QB-Norm with banks of {texts} texts and {videos} videos")
        if "pair_scores" in self.tensors:
            used.append(f"reranking of the {int(self.tensors['rerank_top'])} best of each query")
        return ", ".join(used) or "none"

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, complete or not at all."""
        facts = {
            "model": self.model,
            "version": self.version,
            "dataset": json.dumps(asdict(self.protocol)),
            "settings": json.dumps(self.settings),
        }
        tensors: dict[str, Tensor] = {}
        for name, value in self.tensors.items():
            is_product = isinstance(value, Product)
            tensors |= {f"{name}.left": value.left, f"{name}.right": value.right} if is_product else {name: value}
        copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        with atomic_file(path) as temporary:
            save_file(copies, temporary, metadata=facts)  # it refuses tensors that share memory

    @classmethod
    def read(cls, path: str | Path) -> "SavedSimilarity":
        """
        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a file that [`save`] wrote.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist; `hf-videolang evaluate --output-dir` writes such a file.")
        try:
            with safe_open(path, "pt") as file:
                facts, names = file.metadata(), file.keys()
                tensors: dict[str, Any] = {name: file.get_tensor(name) for name in names}
            for name in [name.removesuffix(".left") for name in tensors if name.endswith(".left")]:
                tensors[name] = Product(tensors.pop(f"{name}.left"), tensors.pop(f"{name}.right"))
            _ = tensors["similarity"], tensors["labels"]
            protocol, settings = Protocol(**json.loads(facts["dataset"])), dict(json.loads(facts["settings"]))
            return cls(facts["model"], facts["version"], protocol, settings, tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be scored ({type(error).__name__}: {error}); expected a similarity.safetensors that "
                "`hf-videolang evaluate --output-dir` wrote."
            ) from error

    def check_model(self, model: str) -> None:
        """
        The results of one model must not get into the card of another.

        Raises:
            ValueError: the matrix was computed with another model, or `model` has changed since.
        """
        if Path(model).resolve() != Path(self.model).resolve():
            raise ValueError(
                f"the matrix was computed with {self.model}, not with --model {model}; name that model, or leave "
                "--model out."
            )
        with errors_naming(model):
            version = str(model_version(model, AutoConfig.from_pretrained(model))["version"])
        if version != self.version:
            raise ValueError(
                f"{model} has changed since the matrix was computed ({self.version} then, {version} now); evaluate it "
                "again, or leave --model out."
            )
