"""Patch embedding as one matrix product.

Legend: B images, C channels, S side, p side of a patch, N patches of an image, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def embed_patches(projection: nn.Conv2d, images: Tensor) -> Tensor:
    """Apply a convolution whose windows do not overlap, on each patch as on a row of a matrix.

    The product is the convolution's own, up to rounding. Written as a linear
    layer its gradients are matrix products as well, in any precision, with no
    choice among a library's kernels for three input channels.

    Args:
        projection: From C channels to D, with a stride of its kernel's size.
        images: ``(B, C, S, S)``; pixels beyond the last whole patch are ignored.

    Returns:
        ``(B, N, D)``, the patches row by row.
    """
    high, wide = projection.kernel_size
    if projection.stride != (high, wide) or projection.padding != (0, 0) or projection.groups > 1:
        return projection(images).flatten(2).transpose(1, 2)
    rows, columns = images.shape[-2] // high, images.shape[-1] // wide
    cut = images[..., : rows * high, : columns * wide]
    # (B, C, rows, p, columns, p)
    windows = cut.unflatten(-1, (columns, wide)).unflatten(-3, (rows, high))
    patches = windows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return F.linear(patches, projection.weight.flatten(1), projection.bias)
