"""Rows that do not depend, to the last bit, on how many others came with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# The number of images decides which kernels a CPU's libraries choose, and with
# it the rounding. Always the same number, and a row depends on its image alone.
CPU_BATCH = 16


def in_fixed_batches(function: Callable[..., Tensor], size: int, *rows: Tensor | None) -> Tensor:
    """Apply a per-sample function to batches of one size, the last one filled up.

    Args:
        function: Takes as many arguments as there are ``rows``, each a tensor or None,
            and gives a row for each of theirs.
        size: Rows of a batch.
        rows: Tensors of equal length, or None, which each batch gets as it is.

    Returns:
        The function's rows, without those that filled up.
    """
    count = next(len(part) for part in rows if part is not None)
    outputs = []
    # No rows make one empty batch, whose output has the right shape.
    for start in range(0, max(1, count), size):
        pieces = [None if part is None else part[start : start + size] for part in rows]
        wanted = min(size, count - start)
        outputs.append(function(*(_filled(piece, size) for piece in pieces))[:wanted])
    return torch.cat(outputs)


def _filled(piece: Tensor | None, size: int) -> Tensor | None:
    if piece is None or not 0 < len(piece) < size:
        return piece
    return torch.cat([piece, piece[-1:].expand(size - len(piece), *piece.shape[1:])])
