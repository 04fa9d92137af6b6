"""The word tokenizer of S3D's text module (s3d §2), as a standard `tokenizer.json` that loads without this package."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase, Replace, Sequence
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

PAD = "[PAD]"


def s3d_tokenizer(words: Iterable[str], max_words: int = 16) -> PreTrainedTokenizerFast:
    r"""
    Lower-cases a text, takes its words (`[\w']+`), drops those that the dictionary lacks, and keeps the first 16.

    Args:
        words: the dictionary, in order. The id of a word is its position + 1, and 0 is padding.
        max_words: words of a text (`model_max_length`).

    ```python
    tokenizer = s3d_tokenizer(np.load("s3d_dict.npy").tolist())
    input_ids = tokenizer("Open the door", padding="max_length", truncation=True).input_ids
    ```
    """
    # Only a model of byte pairs drops what it does not know. Here it has whole words alone: no merges, and each entry
    # starts with the mark "▁", so that no entry is a single letter of an unknown word.
    vocabulary = {PAD: 0} | {f"▁{word}": index for index, word in enumerate(words, start=1)}
    tokenizer = Tokenizer(BPE(vocabulary, merges=[], ignore_merges=True))
    tokenizer.normalizer = Sequence([Lowercase(), Replace(Regex(r"[^\p{L}\p{N}_']+"), " ")])
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="always")
    tokenizer.decoder = MetaspaceDecoder(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        model_max_length=max_words,
        model_input_names=["input_ids"],
        split_special_tokens=True,  # in a text, "[PAD]" is the word "pad"
    )


__all__ = ["s3d_tokenizer"]
