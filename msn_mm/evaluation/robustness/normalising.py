"""Corruption errors relative to AlexNet's published ones, and to a baseline of the same run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msn_mm.evaluation.robustness.corruption_error import (
    ALEXNET_ERRORS,
    Errors,
    corruption_errors,
    mean_corruption_error,
)

Measured = dict[str, Any]


def by_alexnet(measured: Mapping[str, Any]) -> Measured:
    """Add ``ce`` to each corruption and ``mce``, normalised by AlexNet's published errors.

    Args:
        measured: What :func:`~.protocol.by_corruption` returns, of all 75 passes.
    """
    reference = {name: (rate,) for name, rate in ALEXNET_ERRORS.items()}
    return _normalised(measured, reference, "ce", "mce")


def by_baseline(measured: Mapping[str, Any], baseline: Mapping[str, Any], name: str) -> Measured:
    """Add ``ce_of_baseline`` to each corruption, ``mce_of_baseline`` and ``baseline``, its name.

    CE and mCE as against AlexNet, 100 for the baseline itself; ``None`` where the
    baseline makes no error. Not the paper's relative mCE, in which each classifier's
    error without corruption is subtracted first.

    Args:
        measured: What :func:`~.protocol.by_corruption` returns.
        baseline: Likewise, of the baseline on the same images.
        name: What the baseline is called.
    """
    added = _normalised(measured, errors_of(baseline), "ce_of_baseline", "mce_of_baseline")
    return {**added, "baseline": name}


def errors_of(measured: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the error rate at each severity by corruption."""
    return {name: list(one["errors"]) for name, one in measured["corruptions"].items()}


def _normalised(measured: Mapping[str, Any], reference: Errors, each: str, all_: str) -> Measured:
    errors = errors_of(measured)
    relative = corruption_errors(errors, reference)
    corruptions = {
        name: {**one, each: relative[name]} for name, one in measured["corruptions"].items()
    }
    return {**measured, "corruptions": corruptions, all_: mean_corruption_error(errors, reference)}
