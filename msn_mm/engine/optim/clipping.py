"""Gradient clipping parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msn_mm.models.ops.distributed import local_part


@torch.no_grad()
def clip_each_norm_(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale the gradient of each parameter to a Euclidean norm of at most ``max_norm``.

    Unlike the usual clipping, one large gradient leaves the others alone. Used by the
    released DINO (https://github.com/facebookresearch/dino) and iBOT. Of a
    sharded gradient it is the norm of the whole.

    Args:
        parameters: Parameters with gradients.
        max_norm: Largest norm of a gradient.

    Returns:
        The norm of all gradients together before clipping, a scalar.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = [_whole(norm) for norm in torch._foreach_norm(gradients)]
    factors = [(max_norm / (norm + 1e-6)).clamp(max=1.0) for norm in norms]
    torch._foreach_mul_([local_part(g) for g in gradients], factors)
    return torch.linalg.vector_norm(torch.stack(norms))


def _whole(norm: Tensor) -> Tensor:
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
