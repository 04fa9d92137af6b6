"""
S3D        s3d_howto100m.pth of MIL-NCE, with its words, s3d_dict.npy, as --dictionary
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_videolang.conversion.model_folder import Conversion
from hf_videolang.conversion.tensor_map import Origin, as_is, map_tensors, model_tensors, size_of, state_dict
from hf_videolang.conversion.untrusted import Checkpoint, ConversionError
from hf_videolang.models.s3d.configuration_s3d import BLOCKS, S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DModel
from hf_videolang.models.s3d.processing_s3d import S3DProcessor
from hf_videolang.models.s3d.tokenization_s3d import s3d_tokenizer
from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor

NAME = "S3D"
EXPECTED = "conv1.conv1.weight, mixed_3b.… and text_module.…"
ALSO_HARMLESS = ()
OPTIONS = {"dictionary": "s3d_dict.npy, the words of the text module"}
BRANCHES = ("conv_b0", "conv_b1_a", "conv_b1_b", "conv_b2_a", "conv_b2_b", "conv_b3_b")
CARD = {
    "training": "By the authors: MIL-NCE on HowTo100M, with clips of 32 frames at about 10 frames a second.",
    "licence": "Apache-2.0, that of the authors' repository of the weights.",
    "license": "apache-2.0",
}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the keys are those of the S3D of MIL-NCE."""
    return {"conv1.conv1.weight", "mixed_5c.conv_b0.conv1.weight"} <= state_dict(checkpoint)[0].keys()


def convert(checkpoint: Checkpoint, *, dictionary: str | Path | None = None) -> Conversion:
    """
    Args:
        checkpoint: one that [`recognises`] accepts.
        dictionary: the words of the text module. Without it the folder gets a video processor alone.

    Raises:
        ConversionError: the checkpoint or the dictionary do not fit.
    """
    values, prefix = state_dict(checkpoint)
    config = _config(values)
    tensor_map = map_tensors(values, model_tensors(S3DModel, config), _origin, lambda key: None)
    processor: S3DProcessor | S3DVideoProcessor = S3DVideoProcessor()
    notes = ["No tokenizer was written, so the model reads videos alone. Pass s3d_dict.npy as --dictionary for texts."]
    if dictionary is not None:
        words, notes = _words(Path(dictionary), config), []
        processor = S3DProcessor(processor, s3d_tokenizer(words, config.max_words), max_length=config.max_words)
    return Conversion(
        model_class=S3DModel,
        config=config,
        tensor_map=tensor_map,
        components=[processor],
        flavour="S3D of MIL-NCE",
        facts={"prefix": prefix},
        notes=notes,
        card=CARD,
    )


def _origin(name: str) -> Origin:
    part, _, rest = name.partition(".")
    return ("" if part == "video_model" else "text_module.") + rest, as_is


def _config(values: Mapping[str, Any]) -> S3DConfig:
    """From the shapes. Where a tensor is missing, the default stays, and the mapping reports the tensor."""
    default = S3DConfig()

    def size(key: str, axis: int, otherwise: int) -> int:
        return size_of(values, key, axis) or otherwise

    return S3DConfig(
        stem_channels=[
            size(f"{name}.conv1.weight", 0, width)
            for name, width in zip(("conv1", "conv_2c"), default.stem_channels, strict=True)
        ],
        block_channels=[
            [
                size(f"mixed_{block}.{branch}.conv1.weight", 0, width)
                for branch, width in zip(BRANCHES, widths, strict=True)
            ]
            for block, widths in zip(BLOCKS, default.block_channels, strict=True)
        ],
        projection_dim=size("fc.weight", 0, default.projection_dim),
        vocab_size=size("text_module.word_embd.weight", 0, default.vocab_size),
        word_embed_dim=size("text_module.word_embd.weight", 1, default.word_embed_dim),
        text_hidden_size=size("text_module.fc1.weight", 0, default.text_hidden_size),
        dtype="float32",
    )


def _words(path: Path, config: S3DConfig) -> list[str]:
    """The words in order."""
    try:
        words = np.lib.format.open_memmap(path, mode="r")  # refuses Python objects, which could run code
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read as an array of words: {error}") from error
    if words.ndim != 1 or words.dtype.kind != "U":
        raise ConversionError(f"{path} holds {words.dtype} {list(words.shape)}, expected a list of words.")
    if len(words) != (rows := config.vocab_size - 1):
        raise ConversionError(
            f"{path} has {len(words)} words, but the word table of the checkpoint has rows for {rows}. Give the "
            "dictionary that belongs to it, or none, for a model that reads videos alone."
        )
    return words.tolist()
