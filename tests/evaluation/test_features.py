from __future__ import annotations

import numpy as np
import pytest
from cyanure.data_processing import preprocess

from msn_mm.errors import UserError
from msn_mm.evaluation import Features, center_and_normalize


def test_agrees_with_cyanure_and_leaves_the_input_alone() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(7, 12)) * 5 + 3).astype(np.float32)
    before = features.copy()
    ours = center_and_normalize(features)
    theirs = np.ascontiguousarray(features, dtype=np.float64)
    preprocess(theirs, centering=True, normalize=True, columns=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-14)
    np.testing.assert_array_equal(features, before)
    assert ours.dtype == np.float64 and ours.flags.c_contiguous


def test_rows_not_the_data_set_are_centred() -> None:
    ours = center_and_normalize(np.random.default_rng(0).normal(size=(5, 8)) + 100)
    np.testing.assert_allclose(ours.mean(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1)


def test_a_constant_row_becomes_zeros() -> None:
    ours = center_and_normalize(np.array([[0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]))
    assert np.array_equal(ours[:2], np.zeros((2, 3)))
    assert np.isfinite(ours).all()


def test_features_that_are_not_finite_are_counted() -> None:
    broken = np.ones((5, 3))
    broken[1, 2], broken[4] = np.nan, np.inf
    with pytest.raises(UserError, match="2 of 5 images are not finite"):
        center_and_normalize(broken)


def test_split_needs_both_parts_and_shapes_must_fit() -> None:
    rows, labels = np.zeros((3, 2), dtype=np.float32), np.array([0, 1, 2])
    support, support_labels, query, query_labels = Features(
        rows, labels, np.array([True, False, True])
    ).split()
    assert support.shape == (2, 2) and query.shape == (1, 2)
    assert support_labels.tolist() == [0, 2] and query_labels.tolist() == [1]
    with pytest.raises(UserError, match="no query images"):
        Features(rows, labels, np.ones(3, dtype=bool)).split()
    with pytest.raises(UserError, match="no support images"):
        Features(rows, labels, np.zeros(3, dtype=bool)).split()
    with pytest.raises(ValueError, match="must be"):
        Features(rows, labels[:2], np.ones(3, dtype=bool))
