"""The features of a labelled data set and how the protocols normalise them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError


@dataclass(frozen=True)
class Features:
    """Frozen features of support and query images.

    Attributes:
        features: ``(n, D)`` float32, one row an image, in the order of the data set.
        labels: ``(n,)`` int64.
        support: ``(n,)`` bool; true for a labelled training image, false for a
            query (test) image.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    support: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.ndim != 2 or self.labels.shape != (n,) or self.support.shape != (n,):
            raise ValueError(
                f"features {self.features.shape}, labels {self.labels.shape} and support "
                f"{self.support.shape} must be (n, D), (n,) and (n,)"
            )

    def split(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Return support features, support labels, query features and query labels.

        Raises:
            UserError: There are no support or no query images.
        """
        for part, mask in (("support", self.support), ("query", ~self.support)):
            if not mask.any():
                raise UserError(
                    f"the evaluation data has no {part} images; give the data loader a data set "
                    "with both labelled (support) and held-out (query) images"
                )
        held_out = ~self.support
        return (
            self.features[self.support],
            self.labels[self.support],
            self.features[held_out],
            self.labels[held_out],
        )


def center_and_normalize(features: NDArray[Any]) -> NDArray[np.float64]:
    """Centre each row on its own mean and scale it to unit L2 norm.

    This is the normalisation of the paper's low-shot protocol (Appendix C.2),
    ``cyanure.data_processing.preprocess(X, centering=True, normalize=True,
    columns=False)``, without changing the caller's array. A constant row has
    no direction and becomes zeros.

    Args:
        features: ``(n, D)``, any real type.

    Returns:
        ``(n, D)`` float64, C-contiguous, a new array.

    Raises:
        UserError: A feature is not finite.
    """
    rows = np.array(features, dtype=np.float64, order="C")
    check_finite(rows)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    # what rounding leaves of a constant row is no direction either
    constant = norms <= 1e-12 * largest * np.sqrt(rows.shape[1])
    rows /= np.where(constant, 1.0, norms)
    rows[constant[:, 0]] = 0.0
    return rows


def check_finite(features: NDArray[Any]) -> None:
    """Raise :class:`UserError` when a row of ``(n, D)`` features has a NaN or an infinity."""
    broken = int((~np.isfinite(features).all(axis=1)).sum())
    if broken:
        raise UserError(
            f"the features of {broken} of {len(features)} images are not finite: the encoder has "
            "diverged; evaluate an earlier checkpoint or train with a lower learning rate"
        )
