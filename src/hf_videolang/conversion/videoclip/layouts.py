"""How VideoCLIP, VLM and BERT name their tensors (videoclip §4.3), each seen from the model's own names."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from hf_videolang.conversion.tensor_map import Origin, as_is

# What the model does without, beside the entries of fairseq's container.
DROPPED = {
    r"embeddings\.position_ids$": "buffer 0, 1, 2, …; the model counts positions itself",
    r"pooler\.dense\.": "no forward pass uses BERT's pooler",
    r"embeddings\.seg_embeddings\.": "no forward pass uses the segment embeddings",
    r"^(mm_encoder\.)?cls\.": "the heads for masked words and for the next sentence belong to pre-training alone",
}
CONTAINER = {
    "args": "options of the training",
    "cfg": "options of the training",
    "criterion": "state of the training",
    "optimizer_history": "state of the training",
    "task_state": "state of the training",
    "extra_state": "state of the training",
    "last_optimizer_state": "state of the optimiser",
}


@dataclass(frozen=True)
class Layout:
    """
    One way of naming.

    Args:
        flavour: which release names its tensors so.
        video, text: what stands before BERT's names in each tower. With one encoder for both they are the same.
        projector, classifier: what stands before the names of these parts, `None` if they are absent.
        is_old: whether LayerNorms have gamma and beta, as in the files of bert-base-uncased.
    """

    flavour: str
    video: str
    text: str
    projector: str | None = None
    classifier: str | None = None
    is_old: bool = False

    def origin(self, name: str) -> Origin:
        """Source key for one of the model's names."""
        starts = {
            "video_model.bert.": self.video,
            "video_model.projector.": self.projector,
            "text_model.bert.": self.text,
            "classifier.": self.classifier,
        }
        start = next(start for start in starts if name.startswith(start))
        key = f"{starts[start]}{name.removeprefix(start)}"
        if self.is_old:
            key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return key, as_is

    @property
    def encoder(self) -> str:
        """As in [`VideoCLIPConfig`]."""
        return {"VLM": "isolated", "VideoCLIP with one encoder": "shared"}.get(self.flavour, "separate")


def find_layout(keys: Collection[str], encoder: str | None = None) -> Layout | None:
    """
    The layout with such keys, `None` if no release has them.

    Args:
        keys: without the prefix `mmmodel.`.
        encoder: of a model with one encoder, if the run's config states it. Otherwise only VLM has segments.
    """

    def starts(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if starts("video_encoder.videomlp."):
        head = "video_encoder.classifier." if starts("video_encoder.classifier.") else None
        return Layout("VideoCLIP", "video_encoder.bert.", "text_encoder.", "video_encoder.videomlp.", head)
    if starts("mm_encoder.videomlp."):
        head = "mm_encoder.classifier." if starts("mm_encoder.classifier.") else None
        is_vlm = encoder == "isolated" or starts("mm_encoder.bert.embeddings.seg_embeddings.")
        flavour = "VLM" if is_vlm and encoder != "shared" else "VideoCLIP with one encoder"
        return Layout(flavour, "mm_encoder.bert.", "mm_encoder.bert.", "mm_encoder.videomlp.", head)
    for prefix in ("bert.", ""):
        if f"{prefix}encoder.layer.0.attention.self.query.weight" in keys:
            return Layout("BERT", prefix, prefix, is_old=f"{prefix}embeddings.LayerNorm.gamma" in keys)
    return None


def drop_reason(key: str) -> str | None:
    """Why the model does without a key of the source, or `None`."""
    return CONTAINER.get(key) or next((why for pattern, why in DROPPED.items() if re.search(pattern, key)), None)
