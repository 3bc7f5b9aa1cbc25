"""What a view operation is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from msn_mm.datasets.view_ops.host import HostView
from msn_mm.errors import did_you_mean
from msn_mm.registry import VIEW_OPS


class ViewOp(ABC):
    """An augmentation cut in two.

    :meth:`draw` runs in the data worker and returns a few numbers, which travel
    with the uint8 crop. :meth:`apply` runs on the model's device on a whole
    batch and is a pure function of images and numbers: it knows nothing of how
    the operation was configured, so views of one size share one pass.

    The numbers stay on the host. ``apply`` therefore decides which rows need
    work, and builds its small coefficient tensors, without a wait for the
    device. An operation may have an :meth:`on_host` of its own for a CPU, which
    changes the pixels as :meth:`apply` does, up to rounding.

    Attributes:
        width: How many numbers describe one application (n).
    """

    width: ClassVar[int]

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the numbers of one view.

        Args:
            rng: Generator of this view; the operation draws what it needs from it.

        Returns:
            float32 (n,). Whether the operation acts at all is part of the numbers.
        """

    @staticmethod
    @abstractmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Change a batch of views; ``images`` may be changed in place.

        Args:
            images: float32 (N, C, S, S) in [0, 1].
            params: float32 (N, n), on the host.

        Returns:
            float32 (N, C, S, S) in [0, 1].
        """

    @staticmethod
    def on_host(view: HostView, params: np.ndarray) -> None:
        """Do the same to one view of three channels, where all views are on a CPU.

        Optional: without it :meth:`apply` does it there as well.

        Args:
            view: Changed in place.
            params: float32 (n,).
        """
        raise NotImplementedError

    @abstractmethod
    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's own transform of the same distribution, for PIL images."""


def find_op(name: str) -> type[ViewOp]:
    """Return the registered operation of a name as it stands in ``params``.

    Raises:
        ValueError: If there is none.
    """
    kind = name.split("#")[0]
    VIEW_OPS.import_from_location()
    op = VIEW_OPS.module_dict.get(kind)
    if op is None:
        known = sorted(VIEW_OPS.module_dict)
        raise ValueError(
            f"unknown view operation '{kind}'.{did_you_mean(kind, known)} "
            f"Registered: {', '.join(known)}"
        )
    return op


def host_function(op: type[ViewOp]) -> Callable[[HostView, np.ndarray], None] | None:
    """Return an operation's :meth:`ViewOp.on_host`; not the one of a parent whose ``apply``
    it overrides.
    """
    for kind in op.__mro__:
        if "on_host" in vars(kind) or "apply" in vars(kind):
            return op.on_host if "on_host" in vars(kind) else None
    return None


def check_probability(p: float, op: str) -> float:
    """Return ``p`` if it is a probability, else raise ``ValueError``."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{op}: p must lie in [0, 1], got {p}")
    return float(p)


def change_rows(
    images: Tensor,
    params: Tensor,
    active: Tensor,
    change: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Change the rows that drew an operation and leave the others bit for bit.

    Args:
        images: float32 (N, C, S, S), changed in place.
        params: (N, ...), numbers of each row, on the host.
        active: bool (N,), on the host; rows to change.
        change: Takes M images, which it may change in place, and their numbers
            (M, ...), on the host; returns the M changed ones.

    Returns:
        float32 (N, C, S, S).
    """
    if not active.any():
        return images
    if active.all():  # gathering would be a copy for nothing
        return change(images, params)
    rows = active.nonzero().flatten().to(images.device, non_blocking=True)
    part = change(images.index_select(0, rows), params[active])
    return images.index_copy_(0, rows, part)
