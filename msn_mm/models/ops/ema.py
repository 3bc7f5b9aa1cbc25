"""The exponential moving average of the target network: arithmetic and schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_PART = 2**23


@torch.no_grad()
def ema_update_(
    targets: Sequence[Tensor],
    sources: Sequence[Tensor],
    momentum: float,
    skip: Tensor | None = None,
) -> None:
    """Move each target towards its source in one fused call.

    ``target <- momentum * target + (1 - momentum) * source``

    Args:
        targets: Tensors to change in place.
        sources: Tensors of the same shapes, in the same order; finite.
        momentum: Weight of the old value, in [0, 1]; 1 leaves the targets unchanged.
        skip: Scalar bool on the tensors' device; where it is true, the targets
            stay as they are. The host does not wait for it, at the cost of a
            copy of at most some tens of megabytes at a time.
    """
    if momentum == 1.0:
        return
    if skip is None:
        torch._foreach_lerp_(list(targets), list(sources), 1.0 - momentum)
        return
    weight = (1.0 - momentum) * skip.logical_not()
    for part in _parts([tensor.numel() for tensor in targets]):
        # The fused lerp takes a number as its weight, and a tensor would be
        # read by the host to make one.
        moves = torch._foreach_sub(list(sources[part]), list(targets[part]))
        torch._foreach_mul_(moves, weight.to(moves[0].dtype))
        torch._foreach_add_(list(targets[part]), moves)


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield runs of tensors of at most ``_PART`` elements together, or of a single larger one."""
    start, elements = 0, 0
    for k, size in enumerate(sizes):
        if k > start and elements + size > _PART:
            yield slice(start, k)
            start, elements = k, 0
        elements += size
    if sizes:
        yield slice(start, len(sizes))


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


def cosine_momentum(step: int, total_steps: int, start: float, end: float = 1.0) -> float:
    """Momentum of a step: half a cosine from ``start`` to exactly ``end`` at the last one.

    Source: Grill et al. 2020, arXiv 2006.07733, section 3.2 (BYOL); DINO and
    MoCo v3 take it over. Arguments as of :func:`linear_momentum`.
    """
    if step >= total_steps - 1:
        return end
    return end - (end - start) * (1.0 + math.cos(math.pi * step / (total_steps - 1))) / 2


MOMENTUM_SCHEDULES: dict[str, Callable[[int, int, float, float], float]] = {
    "linear": linear_momentum,
    "cosine": cosine_momentum,
}
