"""Captions of pictures, by an image-captioning model of transformers."""

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_videolang.data.records import name_some
from hf_videolang.hub.loading import errors_naming

CHAT_PROMPT = "Describe this picture in one sentence of at most 16 words."


class CaptionerInputs:
    """
    Turns pictures into the inputs of `generate`. It does not hold the model, so DataLoader workers can use it.

    A processor with a chat template gets each picture with the prompt as one chat message. Any other processor gets
    the prompt as text, or no text if there is no prompt. Sequences are padded on the left.

    Args:
        model: folder or Hub id.
        prompt (*optional*): a question to a chat model, or the beginning of a caption that the model completes. Chat
            models are asked for one sentence by default, others caption without a prompt.

    Raises:
        ValueError: the model has no processor of pictures and texts.
        OSError: there is no such model.
    """

    def __init__(self, model: str | Path, prompt: str | None = None):
        with errors_naming(model):
            self.processor: Any = AutoProcessor.from_pretrained(model)
        if not (hasattr(self.processor, "image_processor") and hasattr(self.processor, "tokenizer")):
            raise ValueError(
                f"{model} has no processor of pictures and texts; choose an image-captioning model with one, such as "
                "BLIP, GIT, LLaVA or Qwen-VL."
            )
        self.is_chat = getattr(self.processor, "chat_template", None) is not None
        self.prompt = prompt or (CHAT_PROMPT if self.is_chat else None)
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token

    def __call__(self, pictures: Sequence[Image]) -> dict[str, Any]:
        """Tensors for `generate`. Their first dimension is pictures (for some models: patches)."""
        if not self.is_chat:
            text = {} if self.prompt is None else {"text": [self.prompt] * len(pictures), "padding": True}
            return dict(self.processor(images=list(pictures), return_tensors="pt", **text))
        question = {"type": "text", "text": self.prompt}
        return dict(
            self.processor.apply_chat_template(
                [[{"role": "user", "content": [{"type": "image", "image": image}, question]}] for image in pictures],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
        )

    def decode(self, generated: torch.Tensor, inputs: Mapping[str, Any]) -> list[str]:
        """The generated texts on one line each, without the prompt."""
        given = inputs.get("input_ids")
        if given is not None and torch.equal(generated[:, : given.shape[1]], given):
            generated = generated[:, given.shape[1] :]
        texts = self.processor.tokenizer.batch_decode(generated, skip_special_tokens=True)
        lines = [" ".join(text.split()) for text in texts]
        prompt = (self.prompt or "").casefold()  # some models repeat the beginning that they complete
        return [line[len(prompt) :].strip() if line.casefold().startswith(prompt) else line for line in lines]


class ImageCaptioner:
    """
    A captioning model on its device. It never samples, whatever the model's generation settings are.

    Args:
        model: folder or Hub id of any architecture of `AutoModelForImageTextToText` with a processor.
        inputs: the object that made the inputs.
        device, dtype: of the weights.
        max_new_tokens (defaults to 32): the most tokens of a caption.
        num_beams (*optional*): beams of the search, by default the model's own number, usually 1.
        max_words (defaults to 16): longer captions are cut off. `None` sets no limit.

    Raises:
        ValueError: the checkpoint lacks weights, or the model writes no texts about pictures.
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
    ):
        self.inputs, self.max_words = inputs, max_words
        self.generation: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
        if num_beams is not None:
            self.generation["num_beams"] = num_beams
        loaded: Any
        facts: dict[str, Any]
        loaded, facts = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, output_loading_info=True)
        if missing := sorted(facts["missing_keys"]):
            raise ValueError(
                f"The checkpoint of {model} lacks {len(missing)} weights of a {type(loaded).__name__}, which would be "
                f"random: {name_some(missing)}. Choose a captioning checkpoint."
            )
        self.model = loaded.eval().to(device)

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Any]) -> list[str]:
        """The captions of the pictures that `CaptionerInputs` prepared; `""` if the model wrote nothing."""
        on_device = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            # BERT's tokenizer makes token types also for models that do not take them, such as GIT.
            if name != "token_type_ids" or name in signature(self.model.forward).parameters
        }
        generated = self.model.generate(**on_device, **self.generation).cpu()
        return [" ".join(text.split()[: self.max_words]) for text in self.inputs.decode(generated, inputs)]
