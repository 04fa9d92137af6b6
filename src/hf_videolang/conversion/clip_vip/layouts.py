"""How the releases that lead to a CLIP-ViP name their tensors (clip_vip §2), each seen from the model's own names."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from hf_videolang.conversion.tensor_map import Origin

WRAPPER, HUB_CLIP, OPENAI_CLIP, CLIP4CLIP = "CLIP-ViP wrapper", "Hub CLIP", "OpenAI CLIP", "CLIP4Clip"
INITIALISING = (HUB_CLIP, OPENAI_CLIP)  # CLIP itself, from which CLIP-ViP starts

OPENAI_NAMES = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
    "logit_scale": "logit_scale",
}
OPENAI_BLOCKS = {
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.encoder.layers": "transformer.resblocks",
}
OPENAI_IN_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
BLOCK_TENSOR = re.compile(r"(?P<blocks>.*\blayers)\.(?P<index>\d+)\.(?P<module>.+)\.(?P<kind>weight|bias)")
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


def as_is(tensor: Tensor) -> Tensor:
    return tensor


def transposed(tensor: Tensor) -> Tensor:
    return tensor.mT


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
        if block := BLOCK_TENSOR.fullmatch(name):
            return self._openai_block(**block.groupdict())
        transform = transposed if name in ("visual_projection.weight", "text_projection.weight") else as_is
        return self.prefix + OPENAI_NAMES.get(name, name), transform

    def _openai_block(self, blocks: str, index: str, module: str, kind: str) -> Origin:
        if blocks == SEQUENCE_BLOCKS:
            block = f"transformerClip.resblocks.{index}"
        else:
            block = f"{self.prefix}{OPENAI_BLOCKS[blocks]}.{index}"
        if module in OPENAI_IN_BLOCK:
            return f"{block}.{OPENAI_IN_BLOCK[module]}.{kind}", as_is
        part = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj").index(module)
        return f"{block}.attn.in_proj_{kind}", lambda tensor: tensor.unflatten(0, (3, -1))[part]

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
