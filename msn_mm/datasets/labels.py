"""What is said where labels are wanted and a data set has none."""

from __future__ import annotations

from typing import Any

from msn_mm.errors import UserError


def labels_hint(dataset: Any) -> str:
    """Return how a data set is told to give labels; the folder's way where it does not say."""
    return getattr(dataset, "LABELS", "for a folder with one folder a class: labels='folder'")


def no_labels(dataset: Any, wanting: str) -> UserError:
    """Return the error that a data set gives no labels to something that needs them."""
    return UserError(
        f"{type(dataset).__name__} gives no labels; {wanting} needs them ({labels_hint(dataset)})"
    )
