"""S3D's two files in the original layout, with random tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.s3d.modeling_s3d import S3DModel
from tests.common.tiny.s3d import WORDS, tiny_config, tiny_model


def original_name(name: str) -> str:
    return name.removeprefix("video_model.").replace("text_model.", "text_module.")


def original_shapes(config: S3DConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {original_name(name): list(value.shape) for name, value in S3DModel(config).state_dict().items()}


def original_values(**changed) -> dict[str, Tensor]:
    return {original_name(name): value.clone() for name, value in tiny_model(**changed).state_dict().items()}


def write_original(
    folder: Path, words: list[str] = WORDS, values: dict[str, Tensor] | None = None
) -> tuple[Path, Path]:
    torch.save(original_values() if values is None else values, folder / "s3d_howto100m.pth")
    np.save(folder / "s3d_dict.npy", np.array(words))
    return folder / "s3d_howto100m.pth", folder / "s3d_dict.npy"


__all__ = ["original_name", "original_shapes", "original_values", "tiny_config", "write_original"]
