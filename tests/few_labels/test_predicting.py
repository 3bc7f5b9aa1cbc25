"""The table of predictions, of names that are not UTF-8 too."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from msn_mm.few_labels.predicting import Predictions

RAW = b"caf\xe9".decode("utf-8", "surrogateescape")
SHOWN = "caf\\xe9"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_class_and_paths_that_are_not_utf8_are_written(tmp_path: Path, suffix: str) -> None:
    found = Predictions(
        paths=[f"{RAW}.png", "bad.png"],
        labels=np.array([1, -1]),
        probabilities=np.array([[0.25, 0.75], [np.nan, np.nan]]),
        nearest=np.array([0, -1]),
        similarity=np.array([0.5, np.nan]),
        unknown=np.array([False, False]),
        threshold=None,
        errors={1: "empty file"},
        classes=("a", RAW),
        labelled_paths=(f"{RAW}/1.png",),
        labelled=np.array([1]),
    )
    file = tmp_path / f"predictions{suffix}"
    found.write(file)
    if suffix == ".parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(file).to_pylist()
    else:
        rows = list(csv.DictReader(file.open(encoding="utf-8", newline="")))
    assert rows[0]["path"] == f"{SHOWN}.png" and rows[0]["nearest"] == f"{SHOWN}/1.png"
    assert rows[0]["label"] == rows[0]["nearest_label"] == SHOWN
    assert not rows[1]["label"] and rows[1]["error"] == "empty file"
