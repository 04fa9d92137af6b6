"""How the releases that lead to a CLIP-ViP name their tensors (clip_vip §2), each seen from the model's own names."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from hf_videolang.conversion.openai_clip import OPENAI_BLOCKS, openai_origin
from hf_videolang.conversion.tensor_map import Origin, as_is

WRAPPER, HUB_CLIP, OPENAI_CLIP, CLIP4CLIP = "CLIP-ViP wrapper", "Hub CLIP", "OpenAI CLIP", "CLIP4Clip"
INITIALISING = (HUB_CLIP, OPENAI_CLIP)  # CLIP itself, from which CLIP-ViP starts

SEQUENCE_BLOCKS = "sequence_transformer.layers"
SEQUENCE_POSITIONS = "sequence_transformer.frame_position_embedding.weight"
SEQUENCE_KEYS = ("frame_position_embeddings.", "transformerClip.")
# Not parameters. They are dropped once they agree with the size that a parameter's shape gives.
POSITION_BUFFERS = {
    "text_model.embeddings.position_ids": "text_config.max_position_embeddings",
    "vision_model.embeddings.position_ids": "positions of a frame",
}
OPENAI_NUMBERS = {
    "input_resolution": "vision_config.image_size",
    "context_length": "text_config.max_position_embeddings",
    "vocab_size": "text_config.vocab_size",
}


@dataclass(frozen=True)
class Layout:
    """One way of naming."""

    flavour: str  # the release that names its tensors so
    prefix: str  # of every key, except those of CLIP4Clip's sequence transformer

    def origin(self, name: str) -> Origin:
        """Source key and transformation for one of the model's names."""
        if self.flavour in (WRAPPER, HUB_CLIP):
            return self.prefix + name, as_is
        if name == SEQUENCE_POSITIONS:
            return "frame_position_embeddings.weight", as_is
        blocks = {**OPENAI_BLOCKS, SEQUENCE_BLOCKS: "transformerClip.resblocks"}
        return openai_origin(name, "" if name.startswith(SEQUENCE_BLOCKS) else self.prefix, blocks)

    def num_layers(self, blocks: str, keys: Collection[str]) -> int:
        """Layers of `blocks` (`"vision_model.encoder.layers"`): one more than the highest index among the keys."""
        stem = self.origin(f"{blocks}.0.layer_norm1.weight")[0].partition(".0.")[0]
        indices = (re.match(re.escape(stem) + r"\.(\d+)\.", key) for key in keys)
        highest = max((int(index[1]) + 1 for index in indices if index), default=0)
        return min(highest, len(keys))  # an absurd index is an unexpected key, not a giant model

    def redundant_sizes(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, int]]:
        """Key, the size that it repeats, and its value: dropped, but compared with the tensor that gives the size."""
        for key, tensor in tensors.items():
            name = key.removeprefix(self.prefix)
            if self.drop_reason(key) is not None and tensor.numel():
                value = tensor.shape[-1] if name in POSITION_BUFFERS else int(tensor.flatten()[0])
                yield key, {**POSITION_BUFFERS, **OPENAI_NUMBERS}[name], value

    def drop_reason(self, key: str) -> str | None:
        """Why the model does without a key of the source, or `None`."""
        name = key.removeprefix(self.prefix)
        if self.flavour in (WRAPPER, HUB_CLIP):
            return "buffer 0, 1, 2, …; the model counts positions itself" if name in POSITION_BUFFERS else None
        return "the shape of another tensor gives this number, too" if name in OPENAI_NUMBERS else None


def find_layout(keys: Collection[str]) -> Layout | None:
    """The layout with such keys, `None` if no release has them."""

    def any_starts(*starts: str) -> bool:
        return any(key.startswith(starts) for key in keys)

    if any_starts("clipmodel."):
        return Layout(WRAPPER, "clipmodel.")
    if any_starts("clip.visual.transformer.", "clip.transformer."):
        return Layout(CLIP4CLIP, "clip.")
    if any_starts("visual.transformer."):
        return Layout(OPENAI_CLIP, "")
    if any_starts("vision_model.", "text_model."):
        is_vip = any_starts("vision_model.embeddings.added_cls", "vision_model.embeddings.temporal_embedding")
        return Layout(WRAPPER if is_vip else HUB_CLIP, "")
    return None
