"""Tiny image captioners of three architectures, which take their prompts in different ways."""

from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
)

SIZE = {"height": 32, "width": 32}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 16}
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<image>"]
VOCABULARY = {token: number for number, token in enumerate([*TOKENS, *(f"word{i}" for i in range(200))])}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}


def word_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab=VOCABULARY, additional_special_tokens=["<image>"])


def lively(model: PreTrainedModel) -> PreTrainedModel:
    """Weights so large that different pictures get different captions."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def write_blip(folder: Path) -> Path:
    """Needs no prompt; its decoder attends to the picture."""
    text = {**TEXT, **SPECIAL, "vocab_size": len(VOCABULARY), "encoder_hidden_size": 32, "sep_token_id": 3}
    lively(BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=VISION))).save_pretrained(folder)
    BlipProcessor(BlipImageProcessorPil(size=SIZE), word_tokenizer()).save_pretrained(folder)
    return folder


def write_git(folder: Path) -> Path:
    """Completes a prompt, and its output repeats the prompt."""
    text = {**TEXT, **SPECIAL, "vocab_size": len(VOCABULARY), "max_position_embeddings": 64}
    lively(GitForCausalLM(GitConfig(**text, vision_config=VISION))).save_pretrained(folder)
    GitProcessor(CLIPImageProcessor(size=SIZE, crop_size=SIZE), word_tokenizer()).save_pretrained(folder)
    return folder


def write_llava(folder: Path) -> Path:
    """A chat model: the picture stands among the words of its prompt. Its own settings sample tokens."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT, **SPECIAL, vocab_size=len(VOCABULARY), num_key_value_heads=2),
        image_token_index=VOCABULARY["<image>"],
        vision_feature_layer=-1,
    )
    model = lively(LlavaForConditionalGeneration(config))
    model.generation_config = GenerationConfig(**SPECIAL, do_sample=True, temperature=5.0)
    model.save_pretrained(folder)
    template = (
        "{% for message in messages %}USER: {% for part in message['content'] %}{% if part['type'] == 'image' %}"
        "<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
    )
    LlavaProcessor(
        CLIPImageProcessor(size=SIZE, crop_size=SIZE),
        word_tokenizer(),
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    return folder
