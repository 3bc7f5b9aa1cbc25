"""The exponential moving average of the target network: arithmetic and schedule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def ema_update_(targets: Sequence[Tensor], sources: Sequence[Tensor], momentum: float) -> None:
    """Move each target towards its source in one fused call.

    ``target <- momentum * target + (1 - momentum) * source``

    Args:
        targets: Tensors to change in place.
        sources: Tensors of the same shapes, in the same order.
        momentum: Weight of the old value, in [0, 1]; 1 leaves the targets bitwise unchanged.
    """
    if momentum == 1.0:
        return
    torch._foreach_lerp_(list(targets), list(sources), 1.0 - momentum)


def linear_momentum(step: int, total_steps: int, start: float, end: float = 1.0) -> float:
    """Momentum of a step: linear, ``start`` at step 0 and exactly ``end`` at the last one.

    Source: Assran et al. 2022, appendix C.1 (0.996 to 1.0 over training).

    Args:
        step: 0-based step.
        total_steps: Number of steps of the run.
        start: Momentum of step 0.
        end: Momentum of step ``total_steps - 1`` and of any step after it.
    """
    if step >= total_steps - 1:
        return end
    return start + (end - start) * step / (total_steps - 1)
