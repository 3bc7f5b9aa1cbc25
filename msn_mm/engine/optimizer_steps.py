"""Optimizer steps of a training whose iterations are forward passes."""

from __future__ import annotations

from typing import Any


def passes_of_a_step(optim_wrapper: Any) -> int:
    """Return how many forward passes an optimizer wrapper sums before it steps."""
    return int(getattr(optim_wrapper, "_accumulative_counts", 1))


def steps_in(iterations: int, passes: int) -> int:
    """Return the optimizer steps of a whole training of so many forward passes.

    The last step is taken by whatever passes are left.
    """
    return -(-iterations // passes)
