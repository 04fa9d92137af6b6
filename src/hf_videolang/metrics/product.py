"""Similarities that are too many to hold: the product of two tables of embeddings, computed block by block."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from torch import Tensor

PAIRS_IN_A_BLOCK = 2**21  # 8 MB in float32


class Product:
    """
    The matrix `left @ right.T`. Only the rows that are read are computed, and none is kept.

    `retrieval_metrics` takes it in place of a tensor. Equal rows of `right` give bit-equal columns, so that their ties
    remain ties.

    Args:
        left (`[rows, dim]`): e.g. embeddings of texts.
        right (`[columns, dim]`): e.g. embeddings of videos.

    Example:
        >>> retrieval_metrics(Product(text_embeds, video_embeds), labels)
    """

    ndim = 2

    def __init__(self, left: Tensor, right: Tensor):
        self.left, self.right = left, right
        self.shape = (len(left), len(right))

    def __len__(self) -> int:
        return len(self.left)

    @property
    def T(self) -> "Product":
        return Product(self.right, self.left)

    def __getitem__(self, rows: slice) -> Tensor:
        different, place = self._different
        return (self.left[rows] @ different.T)[:, place]

    @cached_property
    def _different(self) -> tuple[Tensor, Tensor]:
        return self.right.unique(dim=0, return_inverse=True)


def row_blocks(matrix: Any) -> Iterator[tuple[int, Any]]:
    """Blocks of rows, each with the number of its first row. A matrix that is held is one block."""
    size = max(1, PAIRS_IN_A_BLOCK // matrix.shape[1]) if isinstance(matrix, Product) else len(matrix)
    for first in range(0, len(matrix), size):
        yield first, matrix[first : first + size]
