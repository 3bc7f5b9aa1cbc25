"""A value and a sentence for each choice that a user may ask about."""

from __future__ import annotations

import dataclasses

from msn_mm.auto_pretraining.image_survey import Survey
from msn_mm.auto_pretraining.machine import Machine
from msn_mm.auto_pretraining.settings import Choices, Wishes
from msn_mm.auto_pretraining.sizes import LADDER
from msn_mm.auto_pretraining.views import SHRUNK_SIDE
from msn_mm.engine.micro_batch import GIB, USED_SHARE

_ASKED = "as asked"


def reasoned(
    chosen: Choices, machine: Machine, images: Survey, wishes: Wishes, why: str
) -> Choices:
    """Return the choices with their reasons.

    Args:
        chosen: The choices.
        machine: What they were chosen for.
        images: Likewise.
        wishes: What the user asked for.
        why: The encoder's reason.
    """
    on_cpu, start = machine.kind == "cpu", wishes.start
    precision = ("float32", "bfloat16 is not known to be faster here")
    if chosen.amp:
        precision = ("bfloat16", "this device computes it faster")
    workers = "one a core, one core left for the training itself"
    reasons = {
        "encoder": (start.described if start else _size(chosen), why),
        "views": _views(chosen, images.short_side[1], on_cpu),
        "mirror": _mirror(chosen, wishes),
        "batch": (f"{chosen.batch}", f"about {images.count // chosen.batch} steps an epoch"),
        "prototypes": _prototypes(chosen, wishes),
        "memory": _memory(chosen, machine),
        "learning rate": _rate(chosen, wishes),
        "precision": precision,
        "workers": (f"{chosen.workers}", "the cores belong to the model" if on_cpu else workers),
    }
    if start is not None:
        reasons["start"] = (start.name, _ASKED)
    return dataclasses.replace(chosen, reasons=reasons)


def _size(chosen: Choices) -> str:
    shape = (chosen.backbone["embed_dim"], chosen.backbone["depth"])
    (name,) = (size.name for size in LADDER if (size.width, size.depth) == shape)
    return f"{name}, patches of {chosen.sizes.patch}"


def _views(chosen: Choices, short_side: int, on_cpu: bool) -> tuple[str, str]:
    sizes = chosen.sizes
    why = f"half of the images have a shorter side of at least {short_side} pixels"
    if chosen.start is None and sizes.side == SHRUNK_SIDE < short_side - SHRUNK_SIDE // 2:
        why += ", and this machine has no time for more"
    if on_cpu:
        why += "; without a GPU few focal views"
    return f"2 x {sizes.side} and {chosen.focal_views} x {sizes.focal} pixels", why


def _mirror(chosen: Choices, wishes: Wishes) -> tuple[str, str]:
    if wishes.mirror is not None:
        why = _ASKED
    elif chosen.mirror:
        why = "photographs mean the same in the mirror"
    else:
        why = "grey images are often signs or scans, which do not mean the same in the mirror"
    return "yes" if chosen.mirror else "no", why


def _prototypes(chosen: Choices, wishes: Wishes) -> tuple[str, str]:
    if wishes.start is not None and wishes.start.head is not None:
        return f"{chosen.head[2]}", "the checkpoint's"
    return f"{chosen.head[2]}", "about as many as images of a batch, which spread over them"


def _rate(chosen: Choices, wishes: Wishes) -> tuple[str, str]:
    why = _ASKED
    if wishes.rate is None:
        why = "by the root of the batch and the width"
        if chosen.start is not None:
            why += ", a quarter of it to keep what the checkpoint knows"
    return f"{chosen.rate:g}", why


def _memory(chosen: Choices, machine: Machine) -> tuple[str, str]:
    value = f"{chosen.needed / GIB:.2f} GiB predicted"
    if chosen.micro_batch is not None:
        value += f", {chosen.micro_batch} views at a time"
    if machine.memory is None:
        return value, "this system does not tell how much is free"
    why = f"{machine.memory / GIB:.1f} GiB are free"
    if chosen.needed > USED_SHARE * machine.memory:
        why += ": IT MAY NOT FIT"
    elif chosen.micro_batch is not None:
        why += ": in parts the same training, where accumulated batches would be another"
    return value, why
