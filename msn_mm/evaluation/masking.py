"""How far an image's representation moves when its patches are hidden.

Shapes: n images, D features, m masks an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError

# Rows whose float64 copy is held at a time: 64 MiB at D = 1,024.
_ROWS = 8192


def masking_invariance(
    whole: NDArray[np.floating], masked: Mapping[float, Sequence[NDArray[np.floating]]]
) -> dict[str, Any]:
    """Compare masked and whole representations by their cosine, at each mask ratio.

    An encoder that maps every image to one point is perfectly invariant, so
    the mean cosine of *different* whole images stands beside: the invariance
    is worth what lies between the two.

    Args:
        whole: (n, D), representations of the whole images, n at least 2.
        masked: For each mask ratio, one (n, D) array a mask, rows in the same order.

    Returns:
        ``images`` (n), ``different_images`` (see :func:`mean_pairwise_cosine`)
        and ``by_ratio``: ratio, in ascending order, to ``mean`` over images and
        masks, ``std`` (sample standard deviation over images of an image's
        mean over its masks) and ``masks`` (m).

    Raises:
        UserError: A representation is zero, NaN or infinite: it has no cosine.
        ValueError: The shapes disagree, or there is no ratio or no mask.

    Source: Assran et al. 2022, appendix G, table 16 (the cosine); the line of
    different images and the standard deviation are not in the table.
    """
    if whole.ndim != 2 or len(whole) < 2:
        raise ValueError(f"whole must be (n, D) with n of 2 or more, not {whole.shape}")
    if not masked or any(not len(arrays) for arrays in masked.values()):
        raise ValueError("masked must hold at least one ratio, and each ratio one mask or more")
    by_ratio: dict[str, dict[str, Any]] = {}
    for ratio in sorted(masked):
        per_image = np.zeros(len(whole))
        for array in masked[ratio]:
            if array.shape != whole.shape:
                raise ValueError(
                    f"masked features at {ratio:g} are {array.shape}, the whole {whole.shape}"
                )
            per_image += cosine_of_rows(array, whole, f"masked by {ratio:g}")
        per_image /= len(masked[ratio])
        by_ratio[f"{ratio:g}"] = {
            "mean": float(per_image.mean()),
            "std": float(per_image.std(ddof=1)),
            "masks": len(masked[ratio]),
        }
    return {
        "images": len(whole),
        "different_images": mean_pairwise_cosine(whole),
        "by_ratio": by_ratio,
    }


def cosine_of_rows(
    first: NDArray[np.floating], second: NDArray[np.floating], name: str = "first"
) -> NDArray[np.float64]:
    """Return the cosine of each row of one array with the same row of another.

    Args:
        first: (n, D).
        second: (n, D), the whole images.
        name: What the first array holds, for errors.

    Returns:
        (n,), in [-1, 1], computed in float64.

    Raises:
        UserError: A row is zero, NaN or infinite.
    """
    cosine = np.empty(len(first))
    for rows in _blocks(len(first)):
        unit = _unit_rows(first[rows], rows.start, name)
        cosine[rows] = np.einsum("nd,nd->n", unit, _unit_rows(second[rows], rows.start, "whole"))
    # rounding may put the cosine of equal vectors a hair above 1
    return cosine.clip(-1, 1)


def mean_pairwise_cosine(features: NDArray[np.floating]) -> float:
    """Return the mean cosine over all pairs of different rows, exactly, in O(n D).

    With unit rows u the sum over ordered pairs is |sum u|² - n.

    Args:
        features: (n, D), n at least 2.

    Raises:
        UserError: A row is zero, NaN or infinite.
        ValueError: There is no pair.
    """
    n = len(features)
    if n < 2:
        raise ValueError(f"a pair wants 2 rows or more, not {n}")
    total = np.zeros(features.shape[1])
    for rows in _blocks(n):
        total += _unit_rows(features[rows], rows.start, "whole").sum(axis=0)
    return float(np.clip((total @ total - n) / (n * (n - 1)), -1, 1))


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def _unit_rows(features: NDArray[np.floating], first: int, name: str) -> NDArray[np.float64]:
    # the squares of any float32 number lie well inside float64's range
    rows = features.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = ~np.isfinite(norms[:, 0])
    if bad.any():
        raise UserError(
            f"the features of image {first + int(bad.argmax())} ({name}) hold NaN or infinite "
            "numbers; check the checkpoint, or extract without --amp"
        )
    zero = norms[:, 0] == 0
    if zero.any():
        raise UserError(
            f"the features of image {first + int(zero.argmax())} ({name}) are all zero and have "
            "no direction; the encoder is broken or has collapsed"
        )
    rows /= norms
    return rows
