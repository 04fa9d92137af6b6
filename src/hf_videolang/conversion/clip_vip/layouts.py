"""How the releases that lead to a CLIP-ViP name their tensors (clip_vip §2), each seen from the model's own names."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from hf_videolang.conversion.tensor_map import Origin
from hf_videolang.conversion.untrusted import ConversionError

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
# Not parameters: dropped, after a look whether they agree with the size that a parameter's shape tells.
POSITION_BUFFERS = {
    "text_model.embeddings.position_ids": "text_config.max_position_embeddings",
    "vision_model.embeddings.position_ids": "positions of a frame",
}
OPENAI_NUMBERS = {
    "input_resolution": "vision_config.image_size",
    "context_length": "text_config.max_position_embeddings",
    "vocab_size": "text_config.vocab_size",
}
SEQUENCE_KEYS = ("frame_position_embeddings.", "transformerClip.")

# First words of other systems' keys, to say whose checkpoint was given instead.
OTHER_FAMILIES = {
    "cnn.": "ClipBERT",
    "backbone.": "ClipBERT's grid-feature detector",
    "mmmodel.": "VideoCLIP",
    "v_encoder.": "HERO",
    "roberta.": "RoBERTa",
    "bert.": "BERT",
    "conv_2b.": "S3D",
    "visual.layer1.": "CLIP with a ResNet; CLIP-ViP needs a vision transformer, such as ViT-B/32 or ViT-B/16",
}


def as_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mT


@dataclass(frozen=True)
class Layout:
    """
    One way of naming.

    Args:
        flavour: which release names its tensors so.
        prefix: what every key starts with (`module.`, `clipmodel.`), but CLIP4Clip's sequence transformer.
        outer: the part of `prefix` that CLIP4Clip's sequence transformer shares.
    """

    flavour: str
    prefix: str
    outer: str

    def origin(self, name: str) -> Origin:
        """Source key and transformation for one of the model's names."""
        if self.flavour in (WRAPPER, HUB_CLIP):
            return self.prefix + name, as_is
        if name == "sequence_transformer.frame_position_embedding.weight":
            return self.outer + "frame_position_embeddings.weight", as_is
        if block := BLOCK_TENSOR.fullmatch(name):
            return self._openai_block(**block.groupdict())
        if name in ("visual_projection.weight", "text_projection.weight"):
            return self.prefix + OPENAI_NAMES[name], transposed
        return self.prefix + OPENAI_NAMES.get(name, name), as_is

    def _openai_block(self, blocks: str, index: str, module: str, kind: str) -> Origin:
        if blocks == "sequence_transformer.layers":
            block = f"{self.outer}transformerClip.resblocks.{index}"
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

    def is_sequence_transformer(self, key: str) -> bool:
        return self.flavour == CLIP4CLIP and key.removeprefix(self.outer).startswith(SEQUENCE_KEYS)

    def redundant_sizes(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, str, int]]:
        """Key, size that it repeats, and its value: dropped, but a check on the tensor that decides the size."""
        for key, tensor in tensors.items():
            name = key.removeprefix(self.prefix)
            if self.drop_reason(key) is not None and tensor.numel():
                value = tensor.shape[-1] if name in POSITION_BUFFERS else int(tensor.flatten()[0])
                yield key, {**POSITION_BUFFERS, **OPENAI_NUMBERS}[name], value

    def drop_reason(self, key: str) -> str | None:
        """Why the model does without a key of the source, or `None`."""
        name = key.removeprefix(self.prefix)
        if self.flavour in (WRAPPER, HUB_CLIP):
            if name in POSITION_BUFFERS:
                return "buffer 0, 1, 2, …; the model counts positions itself"
        elif name in OPENAI_NUMBERS:
            return "a number that the shape of another tensor tells, too"
        return None


def detect_layout(keys: Iterable[str], what: str) -> Layout:
    """
    Raises:
        ConversionError: no layout has such keys.
    """
    keys = list(keys)
    outer = "module." if keys and all(key.startswith("module.") for key in keys) else ""
    names = [key.removeprefix(outer) for key in keys]

    def any_starts(*starts: str) -> bool:
        return any(name.startswith(starts) for name in names)

    if any_starts("clipmodel."):
        return Layout(WRAPPER, outer + "clipmodel.", outer)
    if any_starts("clip.visual.transformer.", "clip.transformer."):
        return Layout(CLIP4CLIP, outer + "clip.", outer)
    if any_starts("visual.transformer."):
        return Layout(OPENAI_CLIP, outer, outer)
    if any_starts("vision_model.", "text_model."):
        is_vip = any_starts("vision_model.embeddings.added_cls", "vision_model.embeddings.temporal_embedding")
        return Layout(WRAPPER if is_vip else HUB_CLIP, outer, outer)
    family = next((family for start, family in OTHER_FAMILIES.items() if any_starts(start)), None)
    raise ConversionError(
        f"{what} is no checkpoint of CLIP-ViP or CLIP"
        + (f", its keys are those of {family}" if family else "")
        + f". Found {len(keys)} keys{': ' if keys else ''}{', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}; expected "
        "clipmodel.vision_model.… (CLIP-ViP), vision_model.… (CLIP on the Hub), visual.transformer.… (OpenAI) or "
        "clip.visual.… (CLIP4Clip)."
    )
