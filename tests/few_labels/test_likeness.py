"""Nearest labelled images, and the rate at which known images are flagged."""

from __future__ import annotations

import numpy as np
import pytest

from msn_mm.few_labels import likeness
from msn_mm.few_labels.likeness import Likeness, images_needed, nearest

from .pixels import digits, draw


def test_the_nearest_is_the_one_of_largest_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = digits()
    picked, rest = draw(labels, 5, seed=0)
    monkeypatch.setattr(likeness, "_BLOCK_ENTRIES", 350)  # seven rows a block
    index, cosine = nearest(features[picked], features[rest[:30]])
    for row, i, c in zip(features[rest[:30]], index, cosine, strict=True):
        distances = np.linalg.norm(features[picked] - row, axis=1)
        assert i == distances.argmin()
        assert c == pytest.approx(1 - distances.min() ** 2 / 2)
    itself, ones = nearest(features[picked], features[picked])
    assert (itself == np.arange(50)).all() and np.allclose(ones, 1)
    other, below = nearest(features[picked], features[picked], is_same=True)
    assert (other != np.arange(50)).all() and (below < 1).all()


def test_the_threshold_is_the_conformal_quantile() -> None:
    known = Likeness(np.linspace(0.1, 0.9, 39))
    assert known.threshold(0.05) == known.similarities[1]  # floor(0.05 * 40) = 2
    assert known.threshold(0.024) is None
    assert known.is_unknown(np.array([0.0, 0.5, np.nan]), 0.05).tolist() == [True, False, False]
    assert not known.is_unknown(np.array([-1.0]), 0.024).any()
    assert images_needed(0.05) == 19
    assert Likeness(np.zeros(19)).threshold(0.05) is not None
    assert Likeness(np.zeros(18)).threshold(0.05) is None


def test_known_images_are_flagged_at_about_the_rate_and_others_mostly() -> None:
    features, labels = digits()
    false, true = [], []
    for seed in range(10):
        picked, rest = draw(labels, 10, seed)
        known = Likeness.among(features[picked])
        asked = nearest(features[picked], features[rest])[1]
        false.append(known.is_unknown(asked, 0.05).mean())
        strange = np.random.default_rng(seed).permuted(features[rest], axis=1)
        true.append(known.is_unknown(nearest(features[picked], strange)[1], 0.05).mean())
    # at most 5 % are asked for; a single draw's rate varies (0.2 to 13 % in 60 draws)
    assert 0.01 < np.mean(false) < 0.07 and max(false) < 0.15
    assert min(true) > 0.99
