"""The resize of torch on a CPU as two products with sparse matrices: equal results in a fraction of the time."""

from functools import lru_cache
from typing import Literal

import torch
from torch.nn.functional import embedding_bag, interpolate


def separable_resize(
    image: torch.Tensor, height: int, width: int, mode: Literal["bilinear", "bicubic"], antialias: bool
) -> torch.Tensor:
    """
    `torch.nn.functional.interpolate(..., align_corners=False)` of one picture, equal up to rounding.

    A new row is a weighted sum of a few old rows, and likewise for columns. torch finds them again for every pixel;
    here, whole rows of memory are summed.

    Args:
        image: `[channels, old height, old width]`, float32, on the CPU. Channels may be first or last in memory.
        height, width: of the result.
        mode, antialias: as in `interpolate`.

    Returns:
        `[channels, height, width]`, not contiguous.
    """
    channels, old_height, old_width = image.shape
    columns_first = image.stride(0) == 1 and channels > 1  # keep the order of a row in memory
    rows = image.permute(1, 2, 0) if columns_first else image.permute(1, 0, 2)
    rows = _weighted_sums(rows, *_weights(old_height, height, mode, antialias))
    columns = rows.permute(1, 2, 0) if columns_first else rows.permute(2, 1, 0)
    columns = _weighted_sums(columns, *_weights(old_width, width, mode, antialias))
    return columns.permute(1, 2, 0)  # of [width, channels, height]


def _weighted_sums(rows: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`[rows, a, b]` -> `[new rows, a, b]`. New row i is the sum over k of `weights[i, k] * rows[numbers[i, k]]`."""
    sums = embedding_bag(numbers, rows.flatten(1), per_sample_weights=weights, mode="sum")
    return sums.unflatten(1, rows.shape[1:])


@lru_cache(maxsize=64)
def _weights(old: int, new: int, mode: str, antialias: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers and weights of old rows, `[new rows, old rows of each]`, from torch's resize of the unit vectors."""
    unit_vectors = torch.eye(old, dtype=torch.float32, device="cpu")[None, None]
    matrix = interpolate(unit_vectors, (new, old), mode=mode, antialias=antialias)[0, 0]
    most = int((matrix != 0).sum(dim=1).max())
    numbers = matrix.abs().topk(most, dim=1).indices.sort(dim=1).values
    return numbers, matrix.gather(1, numbers)
