"""A value and a sentence for each choice that a user may ask about."""

from __future__ import annotations

import dataclasses

from msn_mm.auto_pretraining.image_survey import Survey
from msn_mm.auto_pretraining.machine import Machine
from msn_mm.auto_pretraining.settings import Choices, Wishes
from msn_mm.auto_pretraining.sizes import LADDER
from msn_mm.auto_pretraining.views import SHRUNK_SIDE
from msn_mm.engine.micro_batch import GIB, USED_SHARE


def reasoned(
    chosen: Choices, machine: Machine, images: Survey, wishes: Wishes, why: str
) -> Choices:
    """Return the choices with a value and a sentence for each that a user may ask about."""
    c, start = chosen, wishes.start
    named = next(
        (
            s.name
            for s in LADDER
            if s.width == c.backbone.get("embed_dim") and s.depth == c.backbone.get("depth")
        ),
        "a ViT",
    )
    side = images.short_side[1]
    reasons = {
        "encoder": (start.described if start else f"{named}, patches of {c.sizes.patch}", why),
        "views": (
            f"2 x {c.sizes.side} and {c.focal_views} x {c.sizes.focal} pixels",
            f"half of the images have a shorter side of at least {side} pixels"
            + (", and this machine has no time for more" if _is_shrunk(side, c) else "")
            + ("; without a GPU few focal views" if machine.kind == "cpu" else ""),
        ),
        "mirror": (
            "yes" if c.mirror else "no",
            "as asked"
            if wishes.mirror is not None
            else "photographs mean the same in the mirror"
            if c.mirror
            else "grey images are often signs or scans, which do not",
        ),
        "batch": (f"{c.batch}", f"about {images.count // c.batch} steps an epoch"),
        "prototypes": (
            f"{c.head[2]}",
            "the checkpoint's"
            if start and start.head
            else "no more than images of a batch, which are to spread over them",
        ),
        "memory": (
            f"{c.needed / GIB:.2f} GiB predicted"
            + (f", {c.micro_batch} views at a time" if c.micro_batch else ""),
            _memory_reason(c, machine),
        ),
        "learning rate": (
            f"{c.rate:g}",
            "as asked"
            if wishes.rate is not None
            else "by the root of the batch and the width"
            + (", a quarter of it to keep what the checkpoint knows" if start else ""),
        ),
        "precision": ("bfloat16", "this device computes it faster")
        if c.amp
        else ("float32", "bfloat16 is not known to be faster here"),
        "workers": (
            f"{c.workers}",
            "the cores belong to the model"
            if machine.kind == "cpu"
            else "one a core, one core left for the training itself",
        ),
    }
    if start is not None:
        reasons["start"] = (start.name, "as asked")
    return dataclasses.replace(chosen, reasons=reasons)


def _is_shrunk(side: int, chosen: Choices) -> bool:
    return chosen.start is None and chosen.sizes.side == SHRUNK_SIDE < side - SHRUNK_SIDE // 2


def _memory_reason(chosen: Choices, machine: Machine) -> str:
    if machine.memory is None:
        return "this system does not tell how much is free"
    free = f"{machine.memory / GIB:.1f} GiB are free"
    if chosen.needed > USED_SHARE * machine.memory:
        return f"{free}: IT MAY NOT FIT"
    if chosen.micro_batch is None:
        return free
    return f"{free}: in parts the same training, where accumulated batches would be another"
