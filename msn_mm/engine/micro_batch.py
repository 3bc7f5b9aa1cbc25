"""``model.micro_batch="auto"``: how many views of a batch fit a device at once."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import DefaultScope

from msn_mm.engine.batch import BatchPlan
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.engine.distributed import World
from msn_mm.engine.fsdp.settle import WRAPPER
from msn_mm.errors import UserError
from msn_mm.models.ops.micro_batch import AUTO
from msn_mm.registry import MODELS, SCOPE
from msn_mm.utils.device_memory import free_bytes
from msn_mm.utils.training_cost import TrainingCost

# The rest is for what predictions leave out: the allocator's gaps, workspaces, buffers
# of communication.
USED_SHARE = 0.8
GIB = 2**30


@dataclass(frozen=True)
class Choice:
    """A micro-batch, and why.

    Attributes:
        size: views at a time; None for the whole batch at once.
        needed: bytes predicted for it on a device.
        free: bytes that the device has.
    """

    size: int | None
    needed: int
    free: int

    def __str__(self) -> str:
        views = "the whole batch at once" if self.size is None else f"{self.size} views at a time"
        text = f"{views}, {self.needed / GIB:.2f} GiB predicted of {self.free / GIB:.2f} GiB free"
        if self.needed > USED_SHARE * self.free:
            text += " (may not fit)"
        return text


def asks_auto(cfg: Config) -> bool:
    """Return whether a config leaves the micro-batch to the launch."""
    return (cfg.get("model") or {}).get("micro_batch") == AUTO


def choose(cost: TrainingCost, batch: BatchPlan, free: int) -> Choice:
    """Return the whole batch, or else the largest power of two of views, that fits.

    It fits if :data:`USED_SHARE` of the free memory holds what is predicted. If even one
    view at a time does not, that is the choice.
    """
    size: int | None = None
    needed = cost.memory(batch).total
    while needed > USED_SHARE * free and size != 1:
        most = cost.views_at_once(batch)
        size = 2 ** (most.bit_length() - 1) if size is None else size // 2
        needed = cost.memory(batch, size).total
    return Choice(size, needed, free)


def settle_micro_batch(cfg: Config, batch: BatchPlan, world: World) -> list[str]:
    """Write the micro-batch that ``"auto"`` comes to into ``cfg``, the same on all processes.

    Collective where the config asks for it.

    Args:
        cfg: resolved for this launch; changed in place.
        batch: what a process gets.
        world: this process's place.

    Returns:
        What to tell the user.

    Raises:
        UserError: The memory that is left, or what the model needs, is not known.
    """
    if not asks_auto(cfg):
        size = (cfg.get("model") or {}).get("micro_batch")
        return [] if size is None else [f"micro-batch: {size} views at a time"]
    sharded = world.size > 1 and (cfg.get("model_wrapper_cfg") or {}).get("type") == WRAPPER
    amp = (cfg.get("optim_wrapper") or {}).get("type") == "AmpGroupOptimWrapper"
    cost = cost_of(cfg, build_on_meta(cfg), amp, sharded)
    choice = choose(cost, batch, least_of_processes(share_of_memory(world.device), world))
    cfg.model["micro_batch"] = choice.size
    return [f"micro-batch: {choice}"]


def build_on_meta(cfg: Config) -> Any:
    """Build a config's model on torch's meta device, where it takes no memory at any size."""
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", SCOPE))
    with scope, config_mistakes(), torch.device("meta"):
        return MODELS.build(copy.deepcopy(cfg.model))


def cost_of(cfg: Config, model: Any, amp: bool, sharded: bool) -> TrainingCost:
    """Return what a step costs.

    Raises:
        UserError: It cannot be told of this backbone.
    """
    with config_mistakes():
        cost = TrainingCost.of(cfg, model, amp, sharded)
    if cost is None:
        raise UserError(
            "model.micro_batch='auto' works for MaskedViT backbones; give a number of views"
        )
    return cost


def share_of_memory(device: torch.device) -> int:
    """Return the free memory of this process: on a CPU all processes of a machine share it.

    Raises:
        UserError: Nothing tells it.
    """
    free = free_bytes(device)
    if free is None:
        raise UserError(
            "model.micro_batch='auto': this system does not tell how much memory is free; give a "
            "number of views"
        )
    sharers = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return free // sharers


def least_of_processes(number: int, world: World) -> int:
    """Return the least of a whole number over all processes. Collective."""
    if world.size == 1:
        return number
    least = torch.tensor(number, dtype=torch.int64, device=world.device)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)
