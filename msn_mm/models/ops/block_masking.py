"""Block-wise patch masks: patches whose embeddings give way to a mask token.

Legend: B images, N = R x C patches.
Sources: Bao et al. 2022, arXiv 2106.08254, algorithm 1; Zhou et al. 2022,
arXiv 2111.07832, section 3.2 and appendix (share of an image, and of images).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msn_mm.models.ops.counter_rng import uniform
from msn_mm.models.ops.position import Grid

BLOCK_STREAM = 3
# Blocks that are tried for an image; a block too large for what is left to mask is no block.
_TRIES = 20
_LOG_ASPECT = math.log(0.3)


def block_masks(
    keys: Tensor,
    grid: Grid,
    ratio: float = 0.3,
    variation: float = 0.2,
    probability: float = 0.5,
) -> Tensor:
    """Mask rectangles of patches in some of the images.

    An image is masked with ``probability``; then the share of its patches to mask is
    uniform in ``ratio`` +- ``variation``, and blocks of random area, shape (aspect
    ratio 0.3 to 1/0.3) and place are added as long as they stay within it.

    Args:
        keys: ``(B,)`` int64; a mask is a function of its image's key alone.
        grid: (R, C).
        ratio: Mean share of masked patches in a masked image.
        variation: Half the width of the range of that share.
        probability: Of an image to be masked.

    Returns:
        ``(B, N)`` bool, true where masked, on the device of ``keys``.

    Raises:
        ValueError: If ratio +- variation leaves [0, 1), or the probability [0, 1].
    """
    if not (0.0 <= ratio - variation <= ratio + variation < 1.0 and 0.0 <= probability <= 1.0):
        raise ValueError(
            f"ratio {ratio} +- {variation} must lie in [0, 1) and probability {probability} "
            "in [0, 1]"
        )
    rows, columns = grid
    draws = uniform(keys, BLOCK_STREAM, 2 + 4 * _TRIES).double()
    share = ratio + variation * (2.0 * draws[:, 1] - 1.0)
    wanted = torch.where(draws[:, 0] < probability, (share * rows * columns).floor(), 0.0)
    row = torch.arange(rows, device=keys.device)[:, None]
    column = torch.arange(columns, device=keys.device)[None, :]
    masks = torch.zeros(len(keys), rows, columns, dtype=torch.bool, device=keys.device)
    smallest = float(max(1, (min(rows, columns) // 3) ** 2))
    for numbers in draws[:, 2:].unflatten(1, (_TRIES, 4)).unbind(1):
        area, aspect, top, left = numbers.unbind(1)
        left_over = wanted - masks.sum((1, 2))
        low = left_over.clamp(max=smallest)
        area = low + (left_over - low) * area
        slope = torch.exp(_LOG_ASPECT * (2.0 * aspect - 1.0))
        height = (area * slope).sqrt().round().clamp(1, rows)
        width = (area / slope).sqrt().round().clamp(1, columns)
        first_row = (top * (rows - height + 1)).floor()[:, None, None]
        first_column = (left * (columns - width + 1)).floor()[:, None, None]
        block = (row >= first_row) & (row < first_row + height[:, None, None])
        block = block & (column >= first_column) & (column < first_column + width[:, None, None])
        fits = (block & ~masks).sum((1, 2)) <= left_over
        masks |= block & fits[:, None, None]
    return masks.flatten(1)
