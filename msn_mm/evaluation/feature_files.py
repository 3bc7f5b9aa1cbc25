"""Features as files for other programs: npz for numpy, parquet for everything else."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ImageFeatures:
    """Features of n images.

    Attributes:
        features: ``(n, D)`` float32.
        paths: The image files as the data name them; a number for an image in memory.
        labels: ``(n,)`` int64, -1 for an image without a label.
        classes: Names of the classes by label; empty where they are not known.
    """

    features: NDArray[np.float32]
    paths: list[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @classmethod
    def of_parts(
        cls, parts: Mapping[str, EvaluationImages], rows: Mapping[str, NDArray[np.float32]]
    ) -> ImageFeatures:
        """Put the features of one or several data sets below each other.

        Args:
            parts: The data sets; with several, a name goes before the number of
                an image that lies in memory.
            rows: By the same names ``(n, D)``, a row an image.
        """
        paths: list[str] = []
        labels = []
        for part, images in parts.items():
            prefix = f"{part}/" if len(parts) > 1 else ""
            paths += [
                prefix + name if path is None else Path(path).as_posix()
                for name, path in zip(images.names, images.paths, strict=True)
            ]
            own = images.labels
            labels.append(np.full(len(images), UNLABELLED) if own is None else own)
        classes = next((images.classes for images in parts.values() if images.classes), ())
        return cls(
            np.concatenate([rows[part] for part in parts]), paths, np.concatenate(labels), classes
        )

    def summary(self) -> dict[str, Any]:
        """Return the numbers of images, labels and classes, and the width of a feature."""
        return {
            "images": len(self.labels),
            "labelled": int((self.labels != UNLABELLED).sum()),
            "classes": len(self.classes) or len(set(self.labels.tolist()) - {UNLABELLED}),
            "numbers": self.features.shape[1],
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
        with writing_atomically(path) as file:
            if kind == "npz":
                np.savez(
                    file,
                    paths=np.array(self.paths, dtype=np.str_),
                    labels=self.labels,
                    features=self.features,
                    classes=np.array(self.classes, dtype=np.str_),
                )
            else:
                _write_parquet(file, self.paths, self.labels, self.features, self.classes)
        return path


def utf8_name(name: str) -> str:
    """The name of a file, or of a class by its folder, in UTF-8: other bytes become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
    written = [utf8_name(name) for name in classes]
    names = [None if label is None or not written else written[label] for label in known]
    numbers = pa.array(np.ascontiguousarray(rows).reshape(-1))
    table = pa.table(
        {
            "path": pa.array([utf8_name(path) for path in paths], pa.string()),
            "label": pa.array(known, pa.int64()),
            "class": pa.array(names, pa.string()),
            "feature": pa.FixedSizeListArray.from_arrays(numbers, rows.shape[1]),
        }
    )
    pq.write_table(table, file)
