"""Digits: the splits are fixed and disjoint, the pixels those of the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from msn_mm.datasets import Digits, digits


def rows(data: Digits) -> list[dict[str, Any]]:
    return [data.get_data_info(i) for i in range(len(data))]


def test_splits_make_up_the_whole_and_share_nothing() -> None:
    pretrain, test, whole = (Digits(split) for split in ("pretrain", "test", "all"))
    assert (len(pretrain), len(test), len(whole)) == (1297, 500, 1797)
    left, right = ({r["img"].tobytes() for r in rows(d)} for d in (pretrain, test))
    assert not left & right
    assert left | right == {r["img"].tobytes() for r in rows(whole)}
    assert set(r["gt_label"] for r in rows(test)) == set(range(10))
    assert pretrain.metainfo["classes"] == tuple("0123456789")


def test_the_held_out_images_are_the_last() -> None:
    # Published numbers hang on them.
    source = load_digits()
    labels = [row["gt_label"] for row in rows(Digits("test", holdout=20))]
    assert labels == source.target[-20:].tolist()
    first = Digits("test", size=8).get_data_info(0)["img"][..., 0]
    np.testing.assert_allclose(first, source.images[1297] * 255 / 16, atol=0.51)


def test_pixels() -> None:
    info = Digits("all").get_data_info(0)
    assert info["img"].shape == (32, 32, 1) and info["img"].dtype == np.uint8
    assert info["gt_label"] == load_digits().target[0]
    as_scanned = Digits("all", size=8).get_data_info(5)["img"][..., 0]
    np.testing.assert_allclose(as_scanned, load_digits().images[5] * 255 / 16, atol=0.51)
    # Bicubic enlargement keeps blocks of the scan, up to overshoot.
    blocks = info["img"].reshape(8, 4, 8, 4).mean((1, 3))
    np.testing.assert_allclose(blocks, load_digits().images[0] * 255 / 16, atol=40)


def test_the_scans_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_digits()
    scans, labels = digits._scans()
    np.testing.assert_array_equal(scans, source.images)
    np.testing.assert_array_equal(labels, source.target)
    # Where its file is elsewhere, it is asked.
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    scans, labels = digits._scans.__wrapped__()
    np.testing.assert_array_equal(scans, source.images)
    assert labels.tolist() == source.target.tolist()


def test_one_split_s_images_are_its_own() -> None:
    data = Digits("test")
    data.get_data_info(0)["img"][:] = 0
    assert data.get_data_info(0)["img"].any()
    np.testing.assert_array_equal(
        Digits("all").get_data_info(1297)["img"], Digits("test").get_data_info(0)["img"]
    )


@pytest.mark.parametrize("arguments", [{"split": "train"}, {"size": 0}, {"holdout": 1797}])
def test_impossible_settings(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Digits"):
        Digits(**arguments)
