"""The precision of what half precision would spoil: statistics, cosines, losses."""

from __future__ import annotations

import torch
from torch import Tensor


def exact(x: Tensor) -> Tensor:
    """Return float32, or float64 as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
