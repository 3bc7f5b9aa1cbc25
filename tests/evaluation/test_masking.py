"""Masking invariance against scikit-learn's cosine and a loop over all pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from msn_mm.errors import UserError
from msn_mm.evaluation import masking
from msn_mm.evaluation.masking import masking_invariance, mean_pairwise_cosine

RNG = np.random.default_rng(5)


def features(n: int = 23, d: int = 7, scale: float = 1.0) -> np.ndarray:
    return (scale * (RNG.standard_normal((n, d)) + 0.4)).astype(np.float32)


def test_numbers_against_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_ROWS", 5)  # several blocks, the last one short
    whole = features()
    masked = {0.7: [whole + features(), features()], 0.15: [whole + 0.1 * features()]}
    found = masking_invariance(whole, masked)
    assert list(found["by_ratio"]) == ["0.15", "0.7"] and found["images"] == 23
    for ratio, arrays in masked.items():
        # (masks, images)
        cosine = np.array([np.diag(cosine_similarity(whole, a)) for a in arrays])
        got = found["by_ratio"][str(ratio)]
        assert got["mean"] == pytest.approx(cosine.mean(), abs=1e-6)
        assert got["std"] == pytest.approx(np.std(cosine.mean(axis=0), ddof=1), abs=1e-6)
        assert got["masks"] == len(arrays)
    pairs = cosine_similarity(whole)
    off_diagonal = pairs[~np.eye(len(whole), dtype=bool)].mean()
    assert found["different_images"] == pytest.approx(off_diagonal, abs=1e-6)
    assert json.loads(json.dumps(found)) == found


def test_the_same_features_are_at_one_and_opposite_ones_at_minus_one() -> None:
    whole = features()
    found = masking_invariance(whole, {0.0: [whole, 3 * whole], 0.5: [-whole]})["by_ratio"]
    assert found["0"]["mean"] == pytest.approx(1, abs=1e-12) and found["0"]["std"] < 1e-12
    assert found["0.5"]["mean"] == pytest.approx(-1, abs=1e-12)
    assert mean_pairwise_cosine(np.tile(whole[:1], (4, 1))) == pytest.approx(1, abs=1e-12)
    assert mean_pairwise_cosine(np.eye(6, dtype=np.float32)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_lengths_do_not_matter(scale: float) -> None:
    whole = features()
    other = features()
    plain = masking_invariance(whole, {0.3: [other]})
    scaled = masking_invariance((whole * scale).astype(np.float32), {0.3: [other]})
    assert scaled["by_ratio"]["0.3"]["mean"] == pytest.approx(plain["by_ratio"]["0.3"]["mean"])
    assert scaled["different_images"] == pytest.approx(plain["different_images"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"image 11 \(masked by 0\.9\) hold NaN"),
        (np.inf, r"image 11 \(masked by 0\.9\) hold NaN or infinite"),
        (0.0, r"image 11 \(masked by 0\.9\) are all zero"),
    ],
)
def test_features_without_a_direction_are_named(
    value: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking, "_ROWS", 4)
    whole, bad = features(), features()
    bad[11] = value
    with pytest.raises(UserError, match=words) as error:
        masking_invariance(whole, {0.9: [features(), bad]})
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"image 11 \(whole\)"):
        masking_invariance(bad, {0.9: [whole]})


def test_impossible_shapes() -> None:
    whole = features()
    with pytest.raises(ValueError, match=r"at 0\.5 are \(22, 7\), the whole \(23, 7\)"):
        masking_invariance(whole, {0.5: [whole[1:]]})
    with pytest.raises(ValueError, match="n of 2 or more"):
        masking_invariance(whole[:1], {0.5: [whole[:1]]})
    with pytest.raises(ValueError, match="at least one ratio"):
        masking_invariance(whole, {0.5: []})
