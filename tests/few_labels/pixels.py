"""Digits by their pixels: features that cost nothing and tell most classes apart."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from msn_mm.evaluation.features import center_and_normalize


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return normalised features (1797, 64) and labels."""
    data = load_digits()
    return center_and_normalize(data.data), data.target


def draw(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of ``count`` images a class, and of all others."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:count] for c in np.unique(labels)]
    picked = np.concatenate(chosen)
    return picked, np.setdiff1d(np.arange(len(labels)), picked)
