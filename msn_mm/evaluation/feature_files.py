"""Features as files for other programs: npz for numpy, parquet for everything else."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.errors import UserError
from msn_mm.utils.results import writing_atomically

UNLABELLED = -1


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format whose package is missing, before any work is done.

    Raises:
        UserError: pyarrow is not installed.
    """
    if "parquet" in formats and importlib.util.find_spec("pyarrow") is None:
        raise UserError("parquet files need pyarrow: pip install 'msn_mm[parquet]'")


class FeatureFile:
    """Images, labels and features, ready to be written."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._labels: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[np.float32]] = []
        self._classes: tuple[str, ...] = ()

    def add(self, part: str, images: EvaluationImages, rows: NDArray[np.float32]) -> None:
        """Take the features of a data set.

        Args:
            part: What to put before the number of an image that lies in memory.
            images: The data set.
            rows: ``(n, D)`` float32, a row an image.
        """
        prefix = f"{part}/" if part else ""
        self._paths += [
            prefix + name if path is None else Path(path).as_posix()
            for name, path in zip(images.names, images.paths, strict=True)
        ]
        labels = images.labels
        self._labels.append(np.full(len(rows), UNLABELLED) if labels is None else labels)
        self._rows.append(rows)
        self._classes = self._classes or images.classes or ()

    def summary(self) -> dict[str, Any]:
        """Return the numbers of images, labels and classes, and the width of a feature."""
        labels = np.concatenate(self._labels)
        return {
            "images": len(labels),
            "labelled": int((labels != UNLABELLED).sum()),
            "classes": len(self._classes) or len(set(labels.tolist()) - {UNLABELLED}),
            "numbers": self._rows[0].shape[1],
        }

    def write(self, directory: Path, kind: str) -> Path:
        """Write ``features.<kind>``, whole or not at all.

        npz: ``paths`` (n,), ``labels`` (n,) int64 with -1 for none, ``features``
        (n, D) float32, ``classes``. parquet: a row an image, columns ``path``,
        ``label`` and ``class`` (null for none) and ``feature``, a list of D float32.

        Args:
            directory: Where; it is made.
            kind: ``npz`` or ``parquet``.

        Returns:
            The file.
        """
        path = directory / f"features.{kind}"
        labels, rows = np.concatenate(self._labels), np.concatenate(self._rows)
        with writing_atomically(path) as file:
            if kind == "npz":
                np.savez(
                    file,
                    paths=np.array(self._paths, dtype=np.str_),
                    labels=labels,
                    features=rows,
                    classes=np.array(self._classes, dtype=np.str_),
                )
            else:
                _write_parquet(file, self._paths, labels, rows, self._classes)
        return path


def _write_parquet(
    file: Any,
    paths: list[str],
    labels: NDArray[np.int64],
    rows: NDArray[np.float32],
    classes: tuple[str, ...],
) -> None:
    # Imported here: an optional package.
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = [label if label != UNLABELLED else None for label in labels.tolist()]
    names = [None if label is None or not classes else classes[label] for label in known]
    numbers = pa.array(np.ascontiguousarray(rows).reshape(-1))
    table = pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "label": pa.array(known, pa.int64()),
            "class": pa.array(names, pa.string()),
            "feature": pa.FixedSizeListArray.from_arrays(numbers, rows.shape[1]),
        }
    )
    pq.write_table(table, file)
