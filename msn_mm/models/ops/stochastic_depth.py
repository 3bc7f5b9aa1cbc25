"""Stochastic depth whose draws follow the image's key, not the device's generator."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from msn_mm.models.ops.counter_rng import uniform

DEPTH_STREAM = 2


class KeyedDropPath(nn.Module):
    """Drop a residual branch for some images of the batch (Huang et al. 2016, arXiv 1603.09382).

    The owner sets :attr:`gate` before it calls the block, also when gradient
    checkpointing calls the block again; none where nothing is to be dropped.

    Args:
        rate: Probability to drop, in [0, 1).
        index: Row of :func:`draw_gates`' result that belongs to this branch.
    """

    gate: Tensor | None

    def __init__(self, rate: float, index: int = 0) -> None:
        super().__init__()
        self.rate = rate
        self.index = index
        self.gate = None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, D)`` -> the same, each image's branch kept and scaled, or zero."""
        # The rate is not asked: a compiled block would be another one at each rate.
        if not self.training or self.gate is None:
            return x
        return x * self.gate.to(x.dtype)[:, None, None]

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def draw_gates(rates: list[float], batch: int, keys: Tensor | None, device: torch.device) -> Tensor:
    """Draw the factor of every branch and image: 0, or 1 / (1 - rate).

    Args:
        rates: Drop rate of each branch, L of them.
        batch: B.
        keys: ``(B,)`` int64, or None for torch's global generator.
        device: Device of the result when there are no keys.

    Returns:
        ``(L, B)`` float32.
    """
    if keys is None:
        draws = torch.rand(batch, len(rates), device=device)
    else:
        draws = uniform(keys, DEPTH_STREAM, len(rates))
    rate = _on(tuple(rates), draws.device)
    return ((draws >= rate).float() / (1.0 - rate)).T.contiguous()


@lru_cache(maxsize=64)
def _on(rates: tuple[float, ...], device: torch.device) -> Tensor:
    # Kept: a list that is copied to a device waits for it.
    with torch.inference_mode(False):
        return torch.tensor(rates, device=device)


def without_stochastic_depth_(network: nn.Module) -> None:
    """Switch off every :class:`KeyedDropPath` of a network, in training mode too."""
    for module in network.modules():
        if isinstance(module, KeyedDropPath):
            module.rate, module.gate = 0.0, None
