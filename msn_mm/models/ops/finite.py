"""Is everything finite? Asked on the device, without waiting for the answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def magnitudes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the Euclidean norm of each tensor, a scalar in float32 or better.

    A norm is not finite when a value is not, or when the squares overflow:
    then no optimizer that squares a gradient could use it either. One pass
    over the values in one fused call; on a CPU some ten times as fast as
    ``isfinite``. Of a sharded tensor it is the norm of this process's part.

    Args:
        tensors: Floating-point tensors of any shapes, none of them in half precision
            alone: the result has float32's range.
    """
    local = [_local(tensor) for tensor in tensors]
    double = [tensor.dtype == torch.float64 for tensor in local]
    if any(double) != all(double):
        return [torch.linalg.vector_norm(tensor) for tensor in local]
    dtype = torch.float64 if all(double) else torch.float32
    return list(torch._foreach_norm(local, 2, dtype))


def magnitude(*tensors: Tensor) -> Tensor:
    """Return one scalar that is finite if the norms of all tensors are."""
    with torch.no_grad():
        return torch.stack(magnitudes([tensor.detach() for tensor in tensors])).sum()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
