"""How OpenAI's CLIP names its tensors, seen from the names that CLIP has on the Hub."""

import re
from collections.abc import Mapping

from torch import Tensor

from hf_videolang.conversion.tensor_map import Origin, as_is

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


def transposed(tensor: Tensor) -> Tensor:
    return tensor.mT


def openai_origin(name: str, prefix: str = "", blocks: Mapping[str, str] = OPENAI_BLOCKS) -> Origin:
    """
    OpenAI's key and the transformation for one of the Hub's names.

    Args:
        name: such as `text_model.encoder.layers.0.mlp.fc1.weight`.
        prefix: of every key of the source.
        blocks: the Hub's name of a stack of layers → OpenAI's.
    """
    if block := BLOCK_TENSOR.fullmatch(name):
        stem, module, kind = f"{prefix}{blocks[block['blocks']]}.{block['index']}", block["module"], block["kind"]
        if module in OPENAI_IN_BLOCK:
            return f"{stem}.{OPENAI_IN_BLOCK[module]}.{kind}", as_is
        part = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj").index(module)
        return f"{stem}.attn.in_proj_{kind}", lambda tensor: tensor.unflatten(0, (3, -1))[part]
    transform = transposed if name in ("visual_projection.weight", "text_projection.weight") else as_is
    return prefix + OPENAI_NAMES.get(name, name), transform
