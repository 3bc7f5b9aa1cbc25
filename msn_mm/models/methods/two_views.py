"""Two views of each image, as methods take them that compare one view with another."""

from __future__ import annotations

from torch import Tensor

from msn_mm.errors import UserError
from msn_mm.models.methods.base import Views

View = dict[str, Tensor]


def two_views(inputs: Views, method: str) -> tuple[View, View]:
    """Return the two views of a batch: of one group of two, or of two groups of one.

    Args:
        inputs: Views by name, each a dict with ``images`` ``(V * B, C, S, S)`` and
            ``key`` ``(V * B,)``, view-major.
        method: Who asks, for what a user is told.

    Returns:
        The first and the second view, each with ``images`` ``(B, C, S, S)`` and ``key`` ``(B,)``.

    Raises:
        UserError: If there are not two views.
    """
    groups = list(inputs.values())
    if len(groups) == 1 and len(groups[0]["key"]) % 2 == 0:
        half = len(groups[0]["key"]) // 2
        groups = [{k: v[part] for k, v in groups[0].items()} for part in _halves(half)]
    if len(groups) != 2 or len(groups[0]["key"]) != len(groups[1]["key"]):
        given = ", ".join(f"{name} ({len(view['key'])})" for name, view in inputs.items())
        raise UserError(
            f"{method} needs two views of each image, one group with num=2 or two with num=1; "
            f"the data gives {given} for a batch"
        )
    return groups[0], groups[1]


def _halves(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(half, None)
