"""Sums over all ranks that autograd can differentiate."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local_part(x: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, in the same memory; any other as it is."""
    return x.to_local() if hasattr(x, "to_local") else x


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Every rank's loss depends on every rank's x: the gradient of the sum
        # of all losses is the sum of all incoming gradients.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum a tensor over all ranks, differentiably; the identity with one process.

    Used under ``DistributedDataParallel``, which averages parameter gradients
    over ranks, a loss that is the mean over all images gets exactly the
    gradient of one process on the joint batch.
    """
    return x if world_size() == 1 else _AllReduceSum.apply(x)


def gather_over_ranks(x: Tensor) -> Tensor:
    """Join the rows of all ranks, the first rank's first, differentiably.

    The gradient of a rank's rows is the sum of all ranks' gradients for them, so
    under ``DistributedDataParallel`` a loss that is each rank's mean over its own
    rows, however many others they are compared with, gets exactly the gradient of
    one process on the joint batch.

    Args:
        x: ``(B, ...)``, of the same shape on every rank.

    Returns:
        ``(ranks * B, ...)``, the same on every rank.
    """
    ranks = world_size()
    if ranks == 1:
        return x
    # Only this rank's place is filled: the sum over the ranks fills the others.
    places = [torch.zeros_like(x)] * ranks
    places[dist.get_rank()] = x
    return all_reduce_sum(torch.cat(places))


def logsumexp_over_ranks(x: Tensor, dim: int) -> Tensor:
    """``logsumexp`` over a dimension that is split over ranks, differentiably.

    Args:
        x: Any shape, finite.
        dim: The dimension whose entries lie on several ranks.

    Returns:
        ``x`` without ``dim``, the same on every rank.
    """
    if world_size() == 1:
        return x.logsumexp(dim)
    peak = x.detach().amax(dim)
    dist.all_reduce(peak, op=dist.ReduceOp.MAX)
    return peak + all_reduce_sum((x - peak.unsqueeze(dim)).exp().sum(dim)).log()
