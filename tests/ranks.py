"""Training a method on one process or two, as copies and in shards, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.fsdp.shards import gather
from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.models.ops.distributed import local_part
from msn_mm.models.ops.ema import ema_update_

BATCH, STEPS = 8, 3
Ranks = list[list[dict[str, Any]]]


def join(wrapping: str) -> tuple[int, int]:
    """Return this process's rank and how many there are; the first call joins them."""
    if wrapping == "none":
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist.get_rank(), 2


def train(
    model: nn.Module,
    wrapping: str,
    batch_of: Callable[[int, int, int], Any],
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
) -> dict[str, Any]:
    """Train for a few steps, moving averages included.

    Args:
        model: A method, in float64.
        wrapping: ``none``, ``ddp`` or ``fsdp``.
        batch_of: From step, rank and number of ranks to the views.
        make_optimizer: From the wrapped model.

    Returns:
        ``losses``, one row a step, the mean over the ranks; ``gradients`` of each step and
        the ``state`` at the end, by name.
    """
    rank, world = join(wrapping)
    wrapped: nn.Module = model
    if wrapping == "ddp":
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    if wrapping == "fsdp":
        wrapped = FullyShardedModel(model)
    optimizer = make_optimizer(model)
    losses, gradients = [], []
    for step in range(STEPS):
        out = wrapped(batch_of(step, rank, world), mode="loss")
        optimizer.zero_grad()
        sum(value for name, value in out.items() if name.startswith("loss")).backward()
        state = {n: p.grad.detach() for n, p in model.named_parameters() if p.grad is not None}
        gradients.append(gather(state) if wrapping == "fsdp" else state)
        gradients[-1] = {n: g.clone() for n, g in gradients[-1].items()}
        optimizer.step()
        for source, target in getattr(model, "ema_pairs", list)():
            ema_update_(
                [local_part(p.detach()) for p in target.parameters()],
                [local_part(p.detach()) for p in source.parameters()],
                0.8,
            )
        mean = torch.stack([value.double() for value in out.values()]).detach()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean / world)
    state = model.state_dict()
    return {
        "losses": torch.stack(losses),
        "gradients": gradients,
        "state": dict(gather(state) if wrapping == "fsdp" else state),
    }


def assert_trained_as_one(
    two: dict[str, Any], one: dict[str, Any], losses: float, others: float, what: Any
) -> None:
    """Compare a training on two ranks with that on one.

    Args:
        two: What :func:`train` gave on the first of two ranks.
        one: What it gave on one.
        losses: By how much a loss may differ.
        others: By how much a gradient or a weight may differ.
        what: The training's name in a message.
    """
    assert torch.allclose(two["losses"], one["losses"], atol=losses, rtol=0), what
    for step in range(STEPS):
        assert two["gradients"][step].keys() == one["gradients"][step].keys()
        for name, gradient in one["gradients"][step].items():
            close = torch.allclose(two["gradients"][step][name], gradient, atol=others)
            assert close, (what, step, name)
    for name, value in one["state"].items():
        if "num_batches" not in name:
            assert torch.allclose(two["state"][name], value, atol=others), (what, name)
