"""How the releases that lead to a ClipBERT name their tensors (clipbert §12), each seen from the model's own names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_videolang.conversion.tensor_map import STATE_DICT, Origin, as_is, size_of, state_dict
from hf_videolang.conversion.untrusted import Checkpoint

CLIPBERT, GRID_FEATURES, RESNET = "ClipBERT", "grid-feature CNN", "ResNet of the Hub"
CONVOLUTION = re.compile(r"cnn\.backbone\.(?:stem|res(?P<stage>\d)\.(?P<block>\d+))\.(?P<layer>\w+)\.(?P<rest>.+)")
# Pattern of source keys → why the model does without them.
DROPPED = {
    r"(cnn\.feature\.)?(proposal_generator|roi_heads)\.": "head of the detector; ClipBERT does not use it",
    r"(cnn\.feature\.)?pixel_(mean|std)": "the processor normalises",
    r"(transformer\.bert\.)visual_embeddings\.position_embeddings\.": "no forward pass uses this table",
    r"(transformer\.)?bert\.embeddings\.position_ids": "buffer 0, 1, 2, …; the model counts positions itself",
    r"(transformer\.)?cls\.predictions\.decoder\.": "tied; equal to the word embeddings or to cls.predictions.bias",
    r"(resnet\.)?(embedder|encoder)\..*\.num_batches_tracked": "the batch norms are frozen",
    r"classifier\.1\.(weight|bias)": "head for the classes of ImageNet",
    r"(optimizer|scheduler|iteration|matching_heuristics|__author__)$": "state of the detector's training",
}
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


@dataclass(frozen=True)
class Layout:
    """
    A checkpoint's values and how they are named.

    Args:
        release: which release names its tensors so.
        values: name → value; with a BERT beside the CNN, those of both files.
    """

    release: str
    values: Mapping[str, Any]

    def origin(self, name: str) -> Origin:
        """Source key and transformation for one of the model's names."""
        key = self._key(name.removeprefix("clipbert."))
        old = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return old if old in self.values else key, as_is

    def _key(self, name: str) -> str:
        start = "transformer." if self.release == CLIPBERT else ""
        if name.startswith(("cls.", "classifier.", "regressor.")):
            return start + name
        if name == "cnn.grid_encoder.weight":
            return "cnn.grid_encoder.0.weight"
        if not (part := CONVOLUTION.fullmatch(name)):
            return f"{start}bert.{name}"
        if self.release != RESNET:
            return name.replace("cnn.", "cnn.feature." if self.release == CLIPBERT else "", 1)
        start = "resnet." if any(key.startswith("resnet.") for key in self.values) else ""
        rest = part["rest"].replace("norm.", "normalization.")
        rest = rest if rest.startswith("normalization.") else f"convolution.{rest}"
        if part["stage"] is None:
            return f"{start}embedder.embedder.{rest}"
        layer = "shortcut" if part["layer"] == "shortcut" else f"layer.{int(part['layer'][-1]) - 1}"
        return f"{start}encoder.stages.{int(part['stage']) - 2}.layers.{part['block']}.{layer}.{rest}"

    def has(self, start: str) -> bool:
        return any(key.startswith(start) for key in self.values)

    def size(self, name: str, axis: int) -> int | None:
        """Of one of the model's tensors; `None` if it is missing, which the mapping reports."""
        return size_of(self.values, self.origin(name)[0], axis)

    def count(self, name: str) -> int:
        """How many of `name.format(0)`, `name.format(1)`, … there are."""
        number = 0
        while self.origin(name.format(number))[0] in self.values:
            number += 1
        return number


def drop_reason(key: str) -> str | None:
    """Why the model does without a key of the source, or `None`."""
    return next((reason for pattern, reason in DROPPED.items() if re.match(pattern, key)), None)


def find_layout(checkpoint: Checkpoint) -> Layout | None:
    """The layout of a checkpoint, `None` if no release has such keys."""
    content = checkpoint.content
    is_detector = isinstance(content, Mapping) and isinstance(content.get("model"), Mapping)
    values, _ = state_dict(checkpoint, "model" if is_detector else STATE_DICT)
    for release, start in (
        (CLIPBERT, "cnn.feature.backbone."),
        (GRID_FEATURES, "backbone.stem.conv1."),
        (RESNET, "resnet.embedder."),
        (RESNET, "embedder.embedder.convolution."),
    ):
        if any(key.startswith(start) for key in values):
            return Layout(release, values)
    return None
