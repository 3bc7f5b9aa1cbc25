"""The centre of a target's logits, which keeps one output from winning everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msn_mm.models.ops.distributed import all_reduce_sum, world_size


class Centre(nn.Module):
    """Moving mean of logits over images and ranks; it moves with optimizer steps only.

    Forward passes show it their means (:meth:`observe`), and
    :class:`~msn_mm.engine.hooks.centring_hook.CentringHook` moves it by the mean of
    those once the step is taken. Source: Caron et al. 2021, arXiv 2104.14294,
    section 3.1, equation 4.

    Args:
        width: K.
        momentum: Weight of the old centre, in [0, 1].

    Raises:
        ValueError: If the momentum lies outside [0, 1].
    """

    value: Tensor

    def __init__(self, width: int, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"centre_momentum is {momentum}; it must lie in [0, 1]")
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(width))
        self._seen: Tensor | None = None
        self._passes = 0

    @torch.no_grad()
    def observe(self, mean: Tensor) -> None:
        """Take note of the mean logits ``(K,)`` of a forward pass on this rank."""
        mean = mean.detach().to(self.value.dtype)
        self._seen = mean if self._seen is None else self._seen + mean
        self._passes += 1

    @torch.no_grad()
    def step(self, skip: Tensor | None = None) -> None:
        """Move towards the mean of what was observed since the last step; collective.

        Args:
            skip: Scalar bool on the device; where it is true the centre stays, bitwise.
        """
        if self._seen is None:
            return
        mean = all_reduce_sum(self._seen) / (self._passes * world_size())
        moved = self.momentum * self.value + (1.0 - self.momentum) * mean
        self.value.copy_(moved if skip is None else torch.where(skip, self.value, moved))
        self.forget()

    def forget(self) -> None:
        """Drop what was observed since the last step."""
        self._seen, self._passes = None, 0

    def extra_repr(self) -> str:
        return f"{self.value.numel()}, momentum={self.momentum}"
