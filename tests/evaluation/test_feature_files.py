"""Files of features for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msn_mm.evaluation.feature_files import ImageFeatures


def test_a_class_that_is_not_utf8_is_written(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")
    rows = np.zeros((2, 3), np.float32)
    found = ImageFeatures(rows, [f"{raw}/1.png", "2.png"], np.array([1, -1]), ("a", raw))
    table = parquet.read_table(found.write(tmp_path, "parquet"))
    assert table["class"].to_pylist() == ["caf\\xe9", None]
    assert table["path"].to_pylist() == ["caf\\xe9/1.png", "2.png"]
    with np.load(found.write(tmp_path, "npz"), allow_pickle=False) as file:
        assert file["classes"].tolist() == ["a", raw]
