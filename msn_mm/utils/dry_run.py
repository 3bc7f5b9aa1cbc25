"""What a config amounts to, told before anything is trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from msn_mm.datasets.shards.names import is_address
from msn_mm.engine.batch import BatchPlan, apply_batch, couples_images, resolve_batch
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.engine.fsdp.settle import WRAPPER
from msn_mm.engine.micro_batch import (
    GIB,
    Choice,
    asks_auto,
    build_on_meta,
    choose,
    cost_of,
    share_of_memory,
)
from msn_mm.engine.parts_check import check_parts
from msn_mm.engine.schedule_ends import ScheduleEnds, schedule_ends
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS, SCOPE
from msn_mm.utils.training_cost import Memory, TrainingCost
from msn_mm.utils.training_views import View

IMAGENET_TRAIN_IMAGES = 1_281_167
_GIGA = 1e9
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    """Everything that a dry run works out.

    Attributes:
        cfg: the resolved config.
        batch: the division of the batch.
        trained: parameters that the optimizer moves.
        target: parameters that follow them, or stay as they are.
        views: the groups of views; empty for a backbone that is no ViT.
        flops: FLOPs of one source image in training, all views; 0 when unknown.
        memory: predicted bytes on a device, ``None`` when unknown.
        micro_batch: views that a network encodes at once, and why, in words; empty
            for whole batches that nobody asked to divide.
        schedules: first, highest, lowest and last value of what is scheduled.
        images: images of the training set, and where the number comes from.
    """

    cfg: Config
    batch: BatchPlan
    trained: int
    target: int
    views: list[View]
    flops: int
    memory: Memory | None
    schedules: list[ScheduleEnds]
    images: tuple[int | None, str] = (None, "")
    notes: list[str] = field(default_factory=list)
    micro_batch: str = ""


def make_plan(
    cfg: Config, processes: int = 1, amp: bool = False, device_memory: float | None = None
) -> Plan:
    """Work out what a config amounts to on a number of processes.

    The model is built on torch's meta device, so it takes no memory at any size.

    Args:
        cfg: the config; not changed.
        processes: number of processes, one device each.
        amp: predict for autocast to bfloat16.
        device_memory: free memory of a device in GiB, for ``model.micro_batch="auto"``;
            default: that of the first device here.

    Raises:
        UserError: for a batch that does not divide or a config that does not build.
    """
    cfg = copy.deepcopy(cfg)
    batch = resolve_batch(cfg, processes)
    apply_batch(cfg, batch)
    model = build_on_meta(cfg)
    check_parts(cfg, model)
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    target = sum(p.numel() for p in parameters if not p.requires_grad)

    sharded = processes > 1 and (cfg.get("model_wrapper_cfg") or {}).get("type") == WRAPPER
    with config_mistakes():
        cost = TrainingCost.of(cfg, model, amp, sharded)
    views: list[View] = []
    flops, memory, notes, micro_batch = 0, None, [], ""
    if cost is not None:
        size, micro_batch = _settle(cfg, cost, batch, device_memory)
        views, flops, memory = cost.views, cost.flops(size), cost.memory(batch, size)
    elif asks_auto(cfg):
        cost_of(cfg, model, amp, sharded)  # tells that it cannot be
    else:
        notes.append("tokens, FLOPs and memory are worked out for MaskedViT backbones only")
    with _scope(cfg), config_mistakes():
        ends = schedule_ends(cfg)
    images = _count_images(cfg)
    return Plan(cfg, batch, trained, target, views, flops, memory, ends, images, notes, micro_batch)


def _settle(
    cfg: Config, cost: TrainingCost, batch: BatchPlan, device_memory: float | None
) -> tuple[int | None, str]:
    """Return the views that go through a network at once, and what to say of them."""
    size = cfg.model.get("micro_batch")
    if not asks_auto(cfg):
        return size, "" if size is None else f"{size} views at a time"
    if device_memory is not None:
        free = round(device_memory * GIB)
    else:
        free = share_of_memory(torch.device("cuda", 0) if torch.cuda.is_available() else CPU)
    choice: Choice = choose(cost, batch, free)
    return choice.size, f"auto: {choice}"


def epochs_of(cfg: Config, images: int | None, global_batch: int) -> float | None:
    """Return the length of training in epochs; ``None`` when it is unknown."""
    loop = cfg.get("train_cfg") or {}
    if loop.get("max_epochs") is not None:
        return float(loop["max_epochs"])
    if loop.get("max_iters") is not None and images:
        return loop["max_iters"] * global_batch / images
    return None


def dry_run(
    cfg: Config,
    processes: int = 1,
    images_per_s: float | None = None,
    amp: bool = False,
    device_memory: float | None = None,
) -> str:
    """Return the report of ``tools/train.py CONFIG --dry-run``.

    Args:
        cfg: the config; not changed.
        processes: number of processes to plan for.
        images_per_s: source images a second over all processes, for the days.
        amp: predict for autocast to bfloat16.
        device_memory: as for :func:`make_plan`.

    Raises:
        UserError: as :func:`make_plan`, and for a rate, a memory or a number of processes
            that is not positive.
    """
    if processes < 1:
        raise UserError(f"--processes must be at least 1, not {processes}")
    for option, number in (("--images-per-s", images_per_s), ("--device-memory", device_memory)):
        if number is not None and not (number > 0 and math.isfinite(number)):
            raise UserError(f"{option} must be a positive number, not {number:g}")
    plan = make_plan(cfg, processes, amp, device_memory)
    return plan.cfg.pretty_text + "\n" + "\n".join(_lines(plan, images_per_s, amp))


def _lines(plan: Plan, images_per_s: float | None, amp: bool) -> list[str]:
    batch = plan.batch
    others = "target" if any(view.target for view in plan.views) else "fixed"
    rows = [("parameters", f"{plan.trained:,} trained, {plan.target:,} {others}")]
    for view in plan.views:
        count = f"{view.num} x " if view.num > 1 else ""
        rows.append(
            (
                f"view {view.name}",
                f"{count}{view.size} pixels, {view.tokens:,} tokens with CLS"
                + (f" of {view.patches:,} patches" if view.tokens <= view.patches else ""),
            )
        )
    rows.append(
        (
            "batch",
            f"{batch.process_batch} a process x {batch.world_size} x {batch.accumulation} "
            f"accumulated = {batch.global_batch}",
        )
    )
    if plan.micro_batch:
        rows.append(("micro-batch", plan.micro_batch))
    if plan.flops:
        rows.append(("FLOPs an image", f"{plan.flops / _GIGA:,.2f} G, all views, with backward"))
    if plan.memory is not None:
        m = plan.memory
        parts = ", ".join(
            f"{name} {_bytes(getattr(m, name))}"
            for name in ("parameters", "gradients", "optimizer", "activations")
        )
        precision = "bfloat16 autocast" if amp else "fp32"
        rows.append(("memory a device", f"{_bytes(m.total)} predicted in {precision} ({parts})"))
    for ends in plan.schedules:
        rows.append((ends.name, str(ends)))
    images, source = plan.images
    epochs = epochs_of(plan.cfg, images, batch.global_batch)
    if epochs is not None:
        shown = f"{images:,} images{source}" if images else f"number of images unknown{source}"
        rows.append(("length", f"{epochs:g} epochs, {shown}"))
        if images and images_per_s:
            days = images * epochs / images_per_s / 86400
            hours = f" ({24 * days:.2f} hours)" if days < 1 else ""
            rows.append(("time", f"{days:.3g} days{hours} at {images_per_s:g} images/s"))
    width = max(len(name) for name, _ in rows)
    return [
        *(f"{name:<{width}}  {text}" for name, text in rows),
        *plan.notes,
        *(f"warning: {text}" for text in batch.warnings() if couples_images(plan.cfg)),
    ]


def _bytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**28 else f"{number / 2**20:.1f} MiB"


def _count_images(cfg: Config) -> tuple[int | None, str]:
    """Return the number of training images; ImageNet-1K's when its data is not here."""
    dataset = copy.deepcopy(cfg.train_dataloader.get("dataset"))
    inner: Any = dataset
    while isinstance(inner, Mapping) and isinstance(inner.get("dataset"), Mapping):
        inner = inner["dataset"]
    if isinstance(inner, dict) and str(inner.get("type")).rpartition(".")[2].startswith("CIFAR"):
        inner["download"] = False  # a dry run fetches nothing
    if isinstance(inner, Mapping) and any(map(is_address, _texts(inner.get("data_root")))):
        return None, " (shards at an address are not fetched to count their images)"
    try:
        with _scope(cfg):
            return len(DATASETS.build(dataset)), ""
    except (OSError, RuntimeError, UserError, KeyError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
    if isinstance(inner, Mapping) and "imagenet" in str(inner.get("data_root", "")).lower():
        return IMAGENET_TRAIN_IMAGES, " (ImageNet-1K's; the data is not here)"
    return None, f" ({why})"


def _texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list | tuple) else [value])]


def _scope(cfg: Config) -> Any:
    return DefaultScope.overwrite_default_scope(cfg.get("default_scope", SCOPE))
