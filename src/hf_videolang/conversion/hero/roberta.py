"""What HERO takes from RoBERTa: every second layer, the embeddings, and the head of the words (hero §10)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from hf_videolang.conversion.tensor_map import Origin, as_is
from hf_videolang.conversion.untrusted import ConversionError, read_json

WORDS = "embeddings.word_embeddings.weight"
HEAD_WIDTH = 64
# Names that HERO has outside its cross-modal BERT.
RENAMED = {"lm_head.decoder.bias": "lm_head.bias", "caption_words.weight": WORDS}
LAYER = re.compile(r"encoder\.layer\.(\d+)\.")
DROPPED = {
    r"^embeddings\.position_ids$": "buffer 0, 1, 2, …",
    r"^pooler\.": "no task reads the pooler",
    r"^lm_head\.decoder\.weight$": "equal to the word embeddings",
    r"^lm_head\.decoder\.bias$": "equal to lm_head.bias",
}


def short(key: str) -> str:
    """The name that a tensor of RoBERTa has within HERO's cross-modal BERT."""
    return key.removeprefix("roberta.").replace("lm_head.layer_norm.", "lm_head.LayerNorm.")


def to_eights(tensor: Tensor) -> Tensor:
    """Zeros behind the words, up to a multiple of 8."""
    return pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, -len(tensor) % 8))


def two_types(tensor: Tensor) -> Tensor:
    """RoBERTa has one type; HERO reads the second of two."""
    return tensor.expand(2, -1) if len(tensor) == 1 else tensor


TRANSFORMS = {WORDS: to_eights, "lm_head.bias": to_eights, "embeddings.token_type_embeddings.weight": two_types}


@dataclass(frozen=True)
class Roberta:
    """
    A RoBERTa, seen from HERO.

    Args:
        values: name within HERO's cross-modal BERT → key of the file and tensor.
        path: of the file. A `config.json` beside it tells the number of heads.
    """

    values: Mapping[str, tuple[str, Any]]
    path: Path

    @property
    def num_layers(self) -> int:
        return len({match[1] for name in self.values if (match := LAYER.match(name))})

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises `ConversionError` if there is no such tensor."""
        _, value = self.values.get(name, ("", None))
        if not isinstance(value, Tensor):
            raise ConversionError(f"{self.path} has no {name}; expected a RoBERTa that guesses masked words.")
        return tuple(value.shape)

    def sizes(self) -> dict[str, dict[str, int]]:
        """Fields of HERO's parts, which are as wide as the RoBERTa."""
        words, width = self.shape(WORDS)
        beside = self.path.with_name("config.json")
        stated = read_json(beside) if beside.exists() else {}
        wide = {
            "hidden_size": width,
            "num_attention_heads": stated.get("num_attention_heads", max(width // HEAD_WIDTH, 1)),
            "intermediate_size": self.shape("encoder.layer.0.intermediate.dense.weight")[0],
        }
        own = {
            "vocab_size": words + -words % 8,
            "max_position_embeddings": self.shape("embeddings.position_embeddings.weight")[0],
        }
        others = ("temporal_config", "query_config")
        return {"cross_modal_config": {**wide, **own}, **{name: dict(wide) for name in others}}

    def step(self, kept: int) -> int:
        """Layers of a group, of which HERO keeps the last."""
        if not 0 < kept <= self.num_layers or self.num_layers % kept:
            raise ConversionError(
                f"{self.path} has {self.num_layers} layers, of which {kept} cannot be kept evenly; give a number that "
                "divides them."
            )
        return self.num_layers // kept

    def origin(self, name: str, kept: int) -> Origin | None:
        """Key and transformation for a name within HERO's cross-modal BERT or heads, `None` if RoBERTa has none."""
        name = RENAMED.get(name, name)
        if match := LAYER.match(name):
            name = f"encoder.layer.{(int(match[1]) + 1) * self.step(kept) - 1}.{name[match.end() :]}"
        if name not in self.values:
            return None
        return self.values[name][0], TRANSFORMS.get(name, as_is)

    def drop_reason(self, key: str, kept: int) -> str | None:
        """Why HERO does without a key of the file, or `None`."""
        name = short(key)
        if match := LAYER.match(name):
            step = self.step(kept)
            return None if (int(match[1]) + 1) % step == 0 else f"of every {step} layers, the last is kept"
        return next((why for pattern, why in DROPPED.items() if re.search(pattern, name)), None)


def find_roberta(values: Mapping[str, Any], path: Path) -> Roberta | None:
    """
    The RoBERTa with such values, `None` if their keys are not RoBERTa's.

    Raises:
        ConversionError: one of a tied pair differs, so that dropping it would lose something.
    """
    if f"roberta.{WORDS}" not in values:
        return None
    named = {short(key): (key, value) for key, value in values.items()}
    for one, other in ((WORDS, "lm_head.decoder.weight"), ("lm_head.bias", "lm_head.decoder.bias")):
        tied = [named[name][1] for name in (one, other) if name in named]
        if len(tied) == 2 and not torch.equal(*tied):
            raise ConversionError(f"{path}: {other} differs from {one}, which it should equal. Use the original.")
    return Roberta(named, path)
