"""Any image-captioning model of the Hub: pictures become inputs, inputs become sentences."""

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image, new
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_videolang.hub.loading import errors_naming

# What these models were trained to be asked; BLIP, GIT and image encoder-decoders caption without a question.
PROMPTS = {"florence2": "<CAPTION>", "paligemma": "<image>caption en", "kosmos-2": "An image of"}
CHAT_PROMPT = "Describe this picture in one sentence of at most 16 words."


class CaptionerInputs:
    """
    Pictures → what `generate` takes. Small enough for the workers of a `DataLoader`: it does not hold the model.

    A processor with a chat template is asked `prompt` about each picture in a chat of its own; another one gets
    `prompt` as text, or no text where it is `None`. Sequences are padded on the left.

    Args:
        model: folder or Hub id.
        prompt: what to ask, or the beginning to be completed. Default: the usual one of the architecture.
        trust_remote_code: whether to run Python code that the repository brings.

    Attributes:
        prompt: the one in use.

    Raises:
        ValueError: the model does not write texts about pictures, or wants a prompt and there is none, or the other
            way round.
        OSError: there is no such model, or it has no processor.
    """

    def __init__(self, model: str | Path, prompt: str | None = None, trust_remote_code: bool = False):
        options = {"trust_remote_code": trust_remote_code}
        kind = _captioner_config(model, trust_remote_code).model_type
        self.processor: Any = None
        self.tokenizer: Any = None
        self.is_chat = False
        if kind == "vision-encoder-decoder":  # such as ViT-GPT2: no processor, only its two halves
            if prompt is not None:
                raise ValueError(f"{model} is an image encoder with a decoder, which takes no prompt; leave it out.")
            self.image_processor = AutoImageProcessor.from_pretrained(model, **options)
            self.tokenizer = AutoTokenizer.from_pretrained(model, **options)
        else:
            self.processor = AutoProcessor.from_pretrained(model, **options)
            self.tokenizer = getattr(self.processor, "tokenizer", None)
            if self.tokenizer is None or not hasattr(self.processor, "image_processor"):
                raise ValueError(
                    f"{model} holds a {type(self.processor).__name__} but no processor of pictures and texts; save "
                    "one there with processor.save_pretrained(folder)."
                )
            self.is_chat = getattr(self.processor, "chat_template", None) is not None
        self.prompt = prompt or (CHAT_PROMPT if self.is_chat else PROMPTS.get(kind))
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.prompt is None:
            try:
                self([new("RGB", (64, 64))])
            except Exception as error:  # each processor has its own way to miss a text
                raise ValueError(
                    f"The processor of {model} does not take a picture alone ({error}); say with --prompt what the "
                    "model is to be asked, as its card tells."
                ) from error

    def __call__(self, pictures: Sequence[Image]) -> dict[str, Any]:
        """Tensors for `generate`, first dimension pictures (of some models: patches)."""
        if self.processor is None:
            return dict(self.image_processor(images=list(pictures), return_tensors="pt"))
        if not self.is_chat:
            text = {} if self.prompt is None else {"text": [self.prompt] * len(pictures), "padding": True}
            return dict(self.processor(images=list(pictures), return_tensors="pt", **text))
        question = {"type": "text", "text": self.prompt}
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": picture}, question]}] for picture in pictures
        ]
        return dict(
            self.processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
        )

    def to_sentences(self, generated: torch.Tensor, inputs: Mapping[str, Any]) -> list[str]:
        """What `generate` returned as text, one line each, without the prompt."""
        asked = inputs.get("input_ids")
        if asked is not None and torch.equal(generated[:, : asked.shape[1]], asked):
            generated = generated[:, asked.shape[1] :]
        lines = [" ".join(text.split()) for text in self.tokenizer.batch_decode(generated, skip_special_tokens=True)]
        begun = (self.prompt or "").casefold()  # some models repeat the words that they complete
        return [line[len(begun) :].strip() if line.casefold().startswith(begun) else line for line in lines]


class ImageCaptioner:
    """
    A captioning model on its device.

    Captions are reproducible: nothing is drawn, whatever the model's own generation settings say.

    Args:
        model: folder or Hub id of any architecture of `AutoModelForImageTextToText`.
        inputs: that made the inputs.
        dtype: of the weights.
        max_new_tokens: tokens of a caption at most.
        num_beams: beams of the search. Default: the model's own, mostly 1.
        max_words: words of a caption at most; the rest is cut off. `None` sets no limit.
        trust_remote_code: whether to run Python code that the repository brings.

    Raises:
        ValueError: the model does not write texts about pictures, or its checkpoint lacks weights.
        OSError: there is no such model.
    """

    def __init__(
        self,
        model: str | Path,
        inputs: CaptionerInputs,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        max_new_tokens: int = 32,
        num_beams: int | None = None,
        max_words: int | None = 16,
        trust_remote_code: bool = False,
    ):
        self.inputs, self.max_words = inputs, max_words
        self.generation: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
        if num_beams is not None:
            self.generation["num_beams"] = num_beams
        self.model: Any = load_image_captioner(model, dtype, trust_remote_code).to(device)  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Any]) -> list[str]:
        """Captions of the pictures that `CaptionerInputs` prepared; empty where the model wrote nothing."""
        on_device = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in inputs.items()
            # BERT's tokenizer gives them to models that have no use for them, such as GIT.
            if name != "token_type_ids" or name in signature(self.model.forward).parameters
        }
        generated = self.model.generate(**on_device, **self.generation).cpu()
        sentences = self.inputs.to_sentences(generated, inputs)
        return [" ".join(sentence.split()[: self.max_words]) for sentence in sentences]


def load_image_captioner(
    model: str | Path, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The model in evaluation mode, with no random weight; arguments and errors as `ImageCaptioner`."""
    _captioner_config(model, trust_remote_code)
    loaded: PreTrainedModel
    facts: dict[str, Any]
    loaded, facts = AutoModelForImageTextToText.from_pretrained(
        model, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
    )
    if missing := sorted(facts["missing_keys"]):
        raise ValueError(
            f"The checkpoint of {model} lacks {len(missing)} weights of a {type(loaded).__name__}, which would be "
            f"random: {', '.join(missing[:5])}{' …' * (len(missing) > 5)}. Take the captioning checkpoint."
        )
    return loaded.eval()


def _captioner_config(model: str | Path, trust_remote_code: bool) -> PreTrainedConfig:
    with errors_naming(model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    brings_code = "AutoModelForImageTextToText" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not brings_code:
        raise ValueError(
            f"{model} is a {config.model_type} model, which does not write texts about pictures; take an "
            "image-captioning model (BLIP, GIT, ViT-GPT2, Florence-2, PaliGemma, LLaVA, Qwen-VL …)."
        )
    return config
