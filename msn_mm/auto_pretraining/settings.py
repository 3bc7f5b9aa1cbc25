"""What is wished for, and what is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msn_mm.auto_pretraining.views import ViewSizes
from msn_mm.datasets.pixel_window import Window
from msn_mm.utils.training_cost import TrainingCost

DEFAULT_HOURS = 12.0


@dataclass(frozen=True)
class Wishes:
    """What the user asked for.

    Attributes:
        hours: How long the training may take.
        mirror: Whether images mean the same in the mirror; ``None``: photographs do.
        rate: Learning rate, ``None`` to choose it.
        start: The encoder of a checkpoint to go on from.
    """

    hours: float = DEFAULT_HOURS
    mirror: bool | None = None
    rate: float | None = None
    start: Start | None = None


@dataclass(frozen=True)
class Start:
    """The encoder of a checkpoint.

    Attributes:
        name: The checkpoint, as the user named it.
        described: Its architecture in words.
        backbone: Its config.
        width: D.
        patch: Side of a patch.
        side: Side in pixels that its positions belong to.
        channels: C.
        mean: Of its pixels, on the scale 0-255.
        std: Likewise.
        head: Hidden and output width, and number of prototypes, where it has a head.
    """

    name: str
    described: str
    backbone: dict[str, Any]
    width: int
    patch: int
    side: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Choices:
    """Settings of a training.

    Attributes:
        backbone: Config of the encoder.
        head: Hidden and output width, and number of prototypes.
        sizes: Sides of views and patches.
        focal_views: Focal views an image.
        is_grey: Augmentations are those of grey images.
        mirror: Whether views are mirrored.
        mean: Of the pixels, on the scale 0-255.
        std: Likewise.
        window: The range of values of 16-bit files that becomes 0 to 255; else ``None``.
        batch: Images of a step.
        micro_batch: Views that are encoded at once; None for all.
        epochs: Length.
        warm_up: Epochs of rising learning rate.
        rate: Highest learning rate.
        momentum: Of the target, at the start.
        amp: bfloat16 autocast.
        fused: One kernel a step of AdamW.
        workers: Data workers.
        pin_memory: Batches travel to the GPU without waiting.
        forks: Data workers are forked; a process that has used Apple's GPU must not be.
        start: Checkpoint that the weights come from.
        images_per_s: Predicted rate.
        needed: Predicted bytes on the device.
        reasons: Name, value and reason of each, for the user.
    """

    backbone: dict[str, Any]
    head: tuple[int, int, int]
    sizes: ViewSizes
    focal_views: int
    is_grey: bool
    mirror: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: Window | None
    batch: int
    micro_batch: int | None
    epochs: int
    warm_up: int
    rate: float
    momentum: float
    amp: bool
    fused: bool
    workers: int
    pin_memory: bool
    forks: bool
    start: str | None
    images_per_s: float
    needed: int
    reasons: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def patience_epochs(self) -> int:
        """Epochs between two measurements: a fortieth of the training."""
        return max(1, self.epochs // 40)


CostOf = Callable[[Choices], TrainingCost]
"""Tells what a candidate costs."""
