"""Position embeddings for another patch grid, by a fixed resampling matrix.

Bicubic interpolation is linear in its input, so it is a matrix that depends on
the two grids alone. Multiplying by it is faster than interpolating at every
step, and its backward pass is deterministic on CUDA, where that of
``F.interpolate(mode="bicubic")`` is not.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


@lru_cache(maxsize=64)
def resampling_matrix(source: Grid, target: Grid) -> Tensor:
    """Bicubic interpolation without antialiasing from one grid to another.

    This is the resampling that the released MSN models were trained with: by
    scale factor ``target / source``, no antialiasing, half-pixel centres
    (timm's own resampling antialiases and gives other values).

    Args:
        source: (rows, columns) of the learned grid.
        target: (rows, columns) of the wanted grid.

    Returns:
        ``(target rows * target columns, source rows * source columns)`` float64 on the CPU.
    """
    cells = source[0] * source[1]
    with torch.device("cpu"), torch.no_grad():
        basis = torch.eye(cells, dtype=torch.float64).reshape(cells, 1, *source)
        resampled = F.interpolate(basis, size=target, mode="bicubic", align_corners=False)
        return resampled.reshape(cells, -1).T.contiguous()


def resample_positions(positions: Tensor, source: Grid, target: Grid) -> Tensor:
    """Resample patch positions.

    Args:
        positions: ``(1, N, D)`` embeddings of the source grid, row by row.
        source: (rows, columns) with N = rows * columns.
        target: (rows, columns) of the wanted grid.

    Returns:
        ``(1, M, D)`` with M = target rows * target columns; the input itself
        when the grids are equal.
    """
    if source == target:
        return positions
    matrix = _on(source, target, positions.device, positions.dtype)
    # Positions are parameters in full precision: autocast must not round them.
    with torch.autocast(positions.device.type, enabled=False):
        return torch.matmul(matrix, positions)


@lru_cache(maxsize=256)
def _on(source: Grid, target: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return resampling_matrix(source, target).to(device=device, dtype=dtype)
