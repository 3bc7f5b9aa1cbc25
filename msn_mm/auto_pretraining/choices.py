"""From a machine and a folder of images to the settings of a training, each with its reason.

A pure function: the same machine, images and wishes give the same choices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from msn_mm.auto_pretraining.image_survey import Survey
from msn_mm.auto_pretraining.length import in_time, is_enough
from msn_mm.auto_pretraining.machine import Machine
from msn_mm.auto_pretraining.reasons import reasoned
from msn_mm.auto_pretraining.settings import Choices, CostOf, Start, Wishes
from msn_mm.auto_pretraining.sizes import LADDER, Size, head_of, largest_for
from msn_mm.auto_pretraining.views import SHRUNK_SIDE, ViewSizes, sizes_at, view_sizes
from msn_mm.convert.architecture import ViTArchitecture
from msn_mm.datasets.pixel_window import Window
from msn_mm.engine import micro_batch
from msn_mm.engine.batch import BatchPlan
from msn_mm.utils.training_cost import TrainingCost

_STEPS_AN_EPOCH = 20
_BATCHES = (16, 256)
# Where time is short, more steps on fewer images: down to this.
_SHORT_BATCH = 64
_LARGE_DATA, _LARGE_BATCH = 500_000, 1024
# Learning rate of a ViT-S at a batch of 1024 (arXiv 2204.07141, C.1).
_RATE, _RATE_WIDTH, _RATE_BATCH, _MOST_RATE = 1e-3, 384, 1024, 2e-3
_CONTINUED = 0.25
# Share of a matrix product's speed that a training step reaches.
_REACHED = {"cuda": 0.35, "mps": 0.35, "cpu": 0.7}
_MOST_WORKERS = 12
# A CPU gains nothing from bfloat16 on the matrices of a narrower encoder.
_WIDE = 384


def choose(machine: Machine, images: Survey, wishes: Wishes, cost_of: CostOf) -> Choices:
    """Choose every setting.

    The largest encoder that the images fill, that the device holds and that the time
    trains for enough steps; on less, smaller ones and smaller views.

    Args:
        machine: What there is to train with.
        images: What there is to learn from.
        wishes: What the user asked for.
        cost_of: FLOPs and memory of a candidate.
    """
    last: Choices | None = None
    for size, sizes, why in _candidates(images, wishes):
        for batch in _batches(images.count):
            one = _settings(machine, images, wishes, size, sizes, batch)
            one = _fitted(one, cost_of(one), machine)
            one = reasoned(one, machine, images, wishes, why)
            last = in_time(one, images.count, wishes.hours)
            if is_enough(last, images.count, wishes.hours) and not is_too_large(last, machine):
                return last
    assert last is not None
    return last


def is_too_large(chosen: Choices, machine: Machine) -> bool:
    """Whether the device may not hold it, even one view at a time."""
    return machine.memory is not None and chosen.needed > micro_batch.USED_SHARE * machine.memory


def _candidates(images: Survey, wishes: Wishes) -> Iterator[tuple[Size | Start, ViewSizes, str]]:
    """Yield encoders and views, the best first."""
    side = images.short_side[1]
    if wishes.start is not None:
        start = wishes.start
        usual = min(start.side, max(side, 2 * start.patch))
        yield start, sizes_at(usual, start.patch), "the checkpoint's"
        return
    cap = largest_for(images.count)
    sizes = view_sizes(side, coarse=cap == 0)
    count = f"{images.count:,} images"
    reason = f"the largest that {count} fill"
    for place in range(cap, min(cap, 2) - 1, -1):
        yield LADDER[place], sizes, reason
        reason = "a larger one would get too few steps in this time, or not fit"
    below = min(cap, 2)
    if sizes.side > SHRUNK_SIDE:
        sizes = sizes_at(SHRUNK_SIDE, sizes.patch)
    else:
        below -= 1
    for place in range(below, -1, -1):
        yield LADDER[place], sizes, reason


def _settings(
    machine: Machine,
    images: Survey,
    wishes: Wishes,
    size: Size | Start,
    sizes: ViewSizes,
    batch: int,
) -> Choices:
    on_gpu, width = machine.kind != "cpu", size.width
    if isinstance(size, Start):
        backbone = {**size.backbone, "img_size": sizes.side}
        hidden, output, prototypes = size.head or (*head_of(size.width), max(batch, 32))
        channels, mean, std = size.channels, size.mean, size.std
        start: str | None = size.name
    else:
        trunk = (size.width, size.depth, size.heads)
        backbone = ViTArchitecture(*trunk, sizes.patch, sizes.side, images.channels).config()
        hidden, output, prototypes = size.hidden, size.output, max(batch, 32)
        channels, mean, std = images.channels, images.mean, images.std
        start = None
    rate = wishes.rate
    if rate is None:
        rate = _RATE * math.sqrt(batch / _RATE_BATCH) * _RATE_WIDTH / size.width
        rate = float(f"{min(rate, _MOST_RATE) * (_CONTINUED if start else 1):.2g}")
    is_small = sizes.side < 96
    return Choices(
        backbone=backbone,
        head=(hidden, output, prototypes),
        sizes=sizes,
        focal_views=(6 if is_small else 10) if on_gpu else (2 if is_small else 4),
        is_grey=channels == 1 or images.is_grey,
        mirror=not images.is_grey if wishes.mirror is None else wishes.mirror,
        mean=mean,
        std=std,
        window=_window(images.window, channels),
        batch=batch,
        micro_batch=None,
        epochs=1,
        warm_up=1,
        rate=rate,
        momentum=0.996,
        amp=machine.has_bf16 and (on_gpu or width >= _WIDE),
        fused=machine.kind != "mps",
        workers=_workers(machine),
        pin_memory=machine.kind == "cuda",
        forks=machine.kind != "mps",
        start=start,
        images_per_s=0.0,
        needed=0,
    )


def _fitted(chosen: Choices, cost: TrainingCost, machine: Machine) -> Choices:
    """Return the choices with as many views at a time as the device holds, and their rate."""
    batch = BatchPlan(1, chosen.batch, 1, chosen.batch, 1.0)
    if machine.memory is None:
        size, needed = None, cost.memory(batch).total
    else:
        fit = micro_batch.choose(cost, batch, machine.memory)
        size, needed = fit.size, fit.needed
    rate = machine.flops_per_s * _REACHED[machine.kind] / cost.flops(size)
    return dataclasses.replace(chosen, micro_batch=size, needed=needed, images_per_s=rate)


def _window(window: Window | None, channels: int) -> Window | None:
    """Return the window for the channels that a checkpoint wants: one for all if they differ."""
    if window is None or len(window) == channels:
        return window
    return ((min(low for low, _ in window), max(high for _, high in window)),)


def _batches(images: int) -> list[int]:
    """Return powers of two to try: the largest within a twentieth of the images, and fewer."""
    least, most = _BATCHES
    if images >= _LARGE_DATA:
        most = _LARGE_BATCH
    first = min(max(2 ** int(math.log2(max(images // _STEPS_AN_EPOCH, 1))), least), most)
    return [first, *(2**k for k in range(20, 0, -1) if _SHORT_BATCH <= 2**k < first)]


def _workers(machine: Machine) -> int:
    if machine.kind == "cpu":
        # The cores belong to the model; the input takes a hundredth of its time.
        return 0 if machine.cores < 4 else 2
    return max(0, min(machine.cores - 1, _MOST_WORKERS))
