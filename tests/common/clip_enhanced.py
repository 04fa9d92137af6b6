"""What CLIP-Enhanced starts from: tiny random models of transformers, as folders of the Hub."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, RobertaConfig, RobertaForMaskedLM

from tests.common.tiny.hero import CLIP_WORDS, WORDS, clip_tokenizer, word_tokenizer

WIDTH, LAYERS = 64, 12


def write_hub_folders(folder: Path) -> Path:
    """Writes `clip` and `roberta` with their tokenizers. CLIP's ids of start and end are wrong, as in old folders."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    text = {**sizes, "vocab_size": len(CLIP_WORDS), "max_position_embeddings": 12, "eos_token_id": 2}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder / "clip")
    clip_tokenizer(CLIP_WORDS).save_pretrained(folder / "clip")
    words = {"vocab_size": len(WORDS), "max_position_embeddings": 120, "type_vocab_size": 1, "pad_token_id": 1}
    wide = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    roberta = RobertaForMaskedLM(RobertaConfig(**words, **wide))
    for parameter in roberta.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    roberta.save_pretrained(folder / "roberta")
    word_tokenizer(WORDS).save_pretrained(folder / "roberta")
    return folder
