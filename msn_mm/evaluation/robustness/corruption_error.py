"""The error that corruptions cause, and its mean normalised by a reference's (mCE).

Source: Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", arXiv 1903.12261, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

# AlexNet's error rate on each corruption of ImageNet-C, the mean over five severities, in
# percent. The paper's table 1 prints them to one digit; these digits are those of
# https://github.com/hendrycks/robustness, in the order of the paper.
ALEXNET_ERRORS: dict[str, float] = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}

CORRUPTIONS = tuple(ALEXNET_ERRORS)
"""The 15 corruptions that count, by the names of ImageNet-C's folders."""
SEVERITIES = (1, 2, 3, 4, 5)

Errors = Mapping[str, Sequence[float]]


def corruption_errors(errors: Errors, reference: Errors) -> dict[str, float | None]:
    """Return CE of each corruption, in percent of a reference's.

    CE_c = 100 · Σ_s E_{s,c} / Σ_s E'_{s,c}, over the severities s.

    Args:
        errors: By corruption the error rate at each severity, in percent.
        reference: Likewise of the reference; a single number for a corruption
            is its mean over the severities.

    Returns:
        By corruption; ``None`` where the reference makes no error.

    Raises:
        ValueError: The reference lacks a corruption, or has other severities.
    """
    found: dict[str, float | None] = {}
    for corruption, rates in errors.items():
        other = reference.get(corruption)
        if other is None or len(other) not in (1, len(rates)) or not rates:
            raise ValueError(f"no reference of {len(rates)} severities for {corruption}")
        below = mean(other)
        found[corruption] = 100.0 * mean(rates) / below if below > 0 else None
    return found


def mean_corruption_error(errors: Errors, reference: Errors | None = None) -> float | None:
    """Return mCE: the mean of :func:`corruption_errors` over the corruptions.

    Args:
        errors: By corruption the error rate at each severity, in percent.
        reference: Default: AlexNet's published errors, with which AlexNet has 100.

    Returns:
        mCE, ``None`` where the reference makes no error on some corruption.

    Raises:
        ValueError: See :func:`corruption_errors`.
    """
    if reference is None:
        reference = {name: (rate,) for name, rate in ALEXNET_ERRORS.items()}
    found = [error for error in corruption_errors(errors, reference).values() if error is not None]
    return mean(found) if len(found) == len(errors) else None


def mean(values: Sequence[float]) -> float:
    """Return the mean of some numbers."""
    return math.fsum(values) / len(values)
