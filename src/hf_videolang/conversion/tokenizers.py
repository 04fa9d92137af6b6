"""Loads the tokenizer that goes into a converted folder."""

from pathlib import Path
from typing import Any

from hf_videolang.conversion.untrusted import ConversionError

BERT_FILES = "BERT's tokenizer.json or vocab.txt"
CLIP_FILES = "CLIP's tokenizer.json, or its vocab.json and merges.txt"


def load_tokenizer(tokenizer_class: Any, name: str | Path, files: str, option: str = "--tokenizer") -> Any:
    """
    Args:
        tokenizer_class: of transformers.
        name: folder or Hub id.
        files: what the folder should hold, for the error.
        option: by which the user gives another one.

    Raises:
        ConversionError: it cannot be loaded, or it has no words.
    """
    try:
        tokenizer = tokenizer_class.from_pretrained(name)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers' answer to a missing vocabulary
            raise FileNotFoundError("no vocabulary")
    except Exception as error:  # no network, no such id, no tokenizer in it: each has its own kind of error
        raise ConversionError(
            f"The tokenizer {name} cannot be loaded ({type(error).__name__}). Pass {option} with a folder that has "
            f"{files}."
        ) from error
    return tokenizer
