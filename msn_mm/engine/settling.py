"""Whether a measured series has settled: by paired scores of images, or by a trend.

Legend: n labelled images, W measurements of a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_LEAST_WINDOW = 8


class ScoreWatch:
    """Count the measurements since a score last rose beyond its noise.

    A measurement is the share of right answers for each of the same n images. The
    noise of a gain is that of the n paired differences: images that are always right,
    or never, say nothing. The best is replaced by significant gains alone, so slow
    progress adds up against it until it counts.

    Args:
        patience: Measurements without such a gain after which the score has settled.

    Attributes:
        best: Mean of the best measurement, in percent.
        since: Measurements after it.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.since = 0
        self._best: np.ndarray | None = None

    @property
    def best(self) -> float | None:
        """Mean of the best measurement, in percent; None before the first."""
        return None if self._best is None else 100 * float(self._best.mean())

    def add(self, right: Sequence[float] | np.ndarray) -> bool:
        """Add a measurement and return whether the score has settled.

        Args:
            right: ``(n,)``, for each image the share of its answers that are right.
        """
        now = np.array(right, dtype=np.float64)
        if self._best is None or len(self._best) != len(now):
            self._best, self.since = now, 0
            return False
        gain = now - self._best
        # One image at the least: n equal differences would have no noise at all.
        error = max(float(gain.std(ddof=1)) / math.sqrt(len(gain)), 1 / len(gain))
        if gain.mean() > error:
            self._best, self.since = now, 0
        else:
            self.since += 1
        return self.since >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes back."""
        best = None if self._best is None else self._best.tolist()
        return {"best": best, "since": self.since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        best = state["best"]
        self._best = None if best is None else np.asarray(best, dtype=np.float64)
        self.since = int(state["since"])


def drift(values: Sequence[float]) -> tuple[float, float]:
    """Return by how much a series moves over its length, and the half width of its 95 % interval.

    Least squares on the number of the value; the interval is Student's.

    Args:
        values: At least three.
    """
    # It takes long to import, and no training needs it before its end comes near.
    from scipy.stats import t as student_t

    y = np.asarray(values, dtype=np.float64)
    x = np.arange(len(y)) - (len(y) - 1) / 2
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / (len(y) - 2) / float(x @ x))
    length = len(y) - 1
    return slope * length, float(student_t.ppf(0.975, len(y) - 2)) * error * length


def has_settled(values: Sequence[float], tolerance: float, window: int = _LEAST_WINDOW) -> bool:
    """Whether the end of a series is known to move by less than a share of its level.

    The whole 95 % interval of the drift must lie within the tolerance: a series that
    is too noisy to tell goes on. The window is the last third, and ``window`` values
    at the least.

    Args:
        values: The series from its start.
        tolerance: Share of the window's mean.
        window: Least length.
    """
    length = max(window, len(values) // 3)
    if len(values) < length:
        return False
    last = list(values)[-length:]
    moved, half_width = drift(last)
    return abs(moved) + half_width <= tolerance * abs(float(np.mean(last)))
