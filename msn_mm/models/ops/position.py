"""Position embeddings for another patch grid, by a fixed resampling matrix.

Bicubic interpolation is linear in its input, so it is a matrix that depends on
the two grids alone. Multiplying by it is faster than interpolating at every
step, and its backward pass is deterministic on CUDA, where that of
``F.interpolate(mode="bicubic")`` is not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]
Resampling = Literal["scale", "dino", "timm"]

# DINO's guard against rounding down; it shifts the values, so it is part of the model.
_DINO_OFFSET = 0.1


@lru_cache(maxsize=64)
def resampling_matrix(source: Grid, target: Grid, kind: Resampling = "scale") -> Tensor:
    """Bicubic interpolation from one grid to another, as a family of models does it.

    ``scale``: by scale factor ``target / source``, no antialiasing, half-pixel
    centres: the released MSN models, MAE, MoCo v3, mmpretrain.
    ``dino``: by scale factor ``(target + 0.1) / source``, no antialiasing: DINO,
    iBOT and DINOv2 without registers (``interpolate_pos_encoding`` in
    https://github.com/facebookresearch/dino/blob/main/vision_transformer.py).
    ``timm``: to the target's size, antialiased: timm, and DINOv2 with registers.

    Args:
        source: (rows, columns) of the learned grid.
        target: (rows, columns) of the wanted grid.
        kind: Whose interpolation.

    Raises:
        ValueError: For another ``kind``.

    Returns:
        ``(target rows * target columns, source rows * source columns)`` float64 on the CPU.
    """
    cells = source[0] * source[1]
    with torch.device("cpu"), torch.no_grad():
        basis = torch.eye(cells, dtype=torch.float64).reshape(cells, 1, *source)
        if kind == "scale":
            resampled = F.interpolate(basis, size=target, mode="bicubic", align_corners=False)
        elif kind == "dino":
            factors = [(t + _DINO_OFFSET) / s for s, t in zip(source, target, strict=True)]
            resampled = F.interpolate(basis, scale_factor=factors, mode="bicubic")
        elif kind == "timm":
            resampled = F.interpolate(basis, size=target, mode="bicubic", antialias=True)
        else:
            raise ValueError(f"kind is '{kind}'; there are scale, dino and timm")
        return resampled.reshape(cells, -1).T.contiguous()


def resample_positions(
    positions: Tensor, source: Grid, target: Grid, kind: Resampling = "scale"
) -> Tensor:
    """Resample patch positions.

    Args:
        positions: ``(1, N, D)`` embeddings of the source grid, row by row.
        source: (rows, columns) with N = rows * columns.
        target: (rows, columns) of the wanted grid.
        kind: See :func:`resampling_matrix`.

    Returns:
        ``(1, M, D)`` with M = target rows * target columns; the input itself
        when the grids are equal.
    """
    if source == target:
        return positions
    matrix = _on(source, target, kind, positions.device, positions.dtype)
    # Positions are parameters in full precision: autocast must not round them.
    with torch.autocast(positions.device.type, enabled=False):
        return torch.matmul(matrix, positions)


@lru_cache(maxsize=256)
def _on(
    source: Grid, target: Grid, kind: Resampling, device: torch.device, dtype: torch.dtype
) -> Tensor:
    with torch.inference_mode(False):
        return resampling_matrix(source, target, kind).to(device=device, dtype=dtype)
