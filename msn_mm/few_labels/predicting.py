"""A folder of images through a predictor, whatever lies in it, and the table of answers.

Legend: m images of the folder, K classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets import EvaluationImages, ImageFolder
from msn_mm.evaluation.feature_files import utf8_name
from msn_mm.evaluation.view_loading import Attempts, collate_attempts, view_loader
from msn_mm.few_labels.predictor import UNKNOWN_RATE, Answers, Predictor
from msn_mm.utils.progress import Progress
from msn_mm.utils.protocol_options import default_workers
from msn_mm.utils.results import writing_atomically

# Answers are computed for so many images at once, however they were encoded: a
# matrix product may round a row by how many others it has.
_ANSWERED_AT_ONCE = 1024
_NONE = -1


@dataclass(frozen=True)
class Predictions:
    """Answers for a folder, one a file, in the order of its names.

    Attributes:
        paths: m names below the folder.
        labels: ``(m,)`` numbers of classes, -1 for an image that cannot be read.
        probabilities: ``(m, K)``, NaN for such an image.
        nearest: ``(m,)`` number of the most similar labelled image, -1 likewise.
        similarity: ``(m,)`` their cosine, NaN likewise.
        unknown: ``(m,)`` whether the image looks like none of the labelled ones.
        threshold: The similarity below which it does; ``None`` where the labelled
            images are too few to tell.
        errors: By number of an image why it cannot be read.
        classes: K names.
        labelled_paths: Names of the labelled images.
        labelled: Their classes.
    """

    paths: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    nearest: NDArray[np.int64]
    similarity: NDArray[np.float64]
    unknown: NDArray[np.bool_]
    threshold: float | None
    errors: dict[int, str]
    classes: tuple[str, ...]
    labelled_paths: tuple[str, ...]
    labelled: NDArray[np.int64]

    def columns(self) -> dict[str, list[Any]]:
        """Return the table that is written, by column; ``None`` where there is no answer."""
        read = self.labels != _NONE

        def where_read(values: list[Any]) -> list[Any]:
            return [v if ok else None for v, ok in zip(values, read.tolist(), strict=True)]

        names = [utf8_name(path) for path in self.labelled_paths]
        # a class may be named by a folder, whose name need not be UTF-8 either
        classes = [utf8_name(name) for name in self.classes]
        return {
            "path": [utf8_name(path) for path in self.paths],
            "label": where_read([classes[k] for k in self.labels]),
            "probability": where_read(self.probabilities.max(axis=1).tolist()),
            "unknown": where_read(self.unknown.tolist()),
            "nearest": where_read([names[i] for i in self.nearest]),
            "nearest_label": where_read([classes[self.labelled[i]] for i in self.nearest]),
            "similarity": where_read(self.similarity.tolist()),
            "error": [self.errors.get(i) for i in range(len(self.paths))],
        }

    def write(self, path: Path) -> None:
        """Write the table as CSV or, where the name ends so, as Parquet; whole or not at all.

        Raises:
            UserError: The place cannot be written.
        """
        with writing_atomically(path) as file:
            if path.suffix == ".parquet":
                _write_parquet(file, self.columns())
            else:
                file.write(_csv(self.columns()).encode())


def predict(
    predictor: Predictor,
    images: str | Path,
    *,
    unknown_rate: float = UNKNOWN_RATE,
    batch_size: int = 64,
    workers: int | None = None,
    progress: str | None = None,
) -> Predictions:
    """Classify every image of a folder, however deep.

    A file that cannot be read gets its reason instead of an answer. On a CPU in
    float32 no answer depends on the batch size or on the workers.

    Args:
        predictor: The classifier.
        images: The folder.
        unknown_rate: Share of images like the labelled ones that may be flagged.
        batch_size: Images of a batch.
        workers: Data workers; 0 reads in this process; default: one a core, 8 at most.
        progress: What to call the work on a terminal; ``None`` for silence.

    Raises:
        UserError: There are no images.
        ValueError: A batch size below 1, or a rate that is none.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if not 0 < unknown_rate < 1:
        raise ValueError(f"unknown_rate must be between 0 and 1, not {unknown_rate}")
    folder = EvaluationImages(ImageFolder(images), predictor.content.view)
    m, errors = len(folder), {}
    labels, near = np.full(m, _NONE), np.full(m, _NONE)
    similarity = np.full(m, np.nan)
    predicted = np.full((m, len(predictor.classes)), np.nan)
    workers = default_workers() if workers is None else workers
    waiting: list[NDArray[np.float32]] = []
    places: list[int] = []

    def answer(many: int) -> None:
        rows = np.concatenate(waiting)
        found: Answers = predictor.answer(rows[:many])
        now = places[:many]
        labels[now], near[now] = found.labels, found.nearest
        similarity[now], predicted[now] = found.similarity, found.probabilities
        waiting[:], places[:] = [rows[many:]], places[many:]

    with Progress(m, progress) as shown:
        for batch in _encoded(predictor, folder, batch_size, workers):
            errors.update(batch.errors)
            if batch.rows is not None:
                waiting.append(batch.rows)
                places.extend(batch.places)
            while len(places) >= _ANSWERED_AT_ONCE:
                answer(_ANSWERED_AT_ONCE)
            shown.to(batch.end)
    if places:
        answer(len(places))
    return Predictions(
        paths=folder.names,
        labels=labels,
        probabilities=predicted,
        nearest=near,
        similarity=similarity,
        # nothing is less than NaN
        unknown=predictor.likeness.is_unknown(similarity, unknown_rate),
        threshold=predictor.likeness.threshold(unknown_rate),
        errors=errors,
        classes=predictor.classes,
        labelled_paths=predictor.paths,
        labelled=predictor.labels,
    )


@dataclass(frozen=True)
class _Batch:
    """What became of some images in a row."""

    places: list[int]
    rows: NDArray[np.float32] | None
    errors: dict[int, str]
    end: int


def _encoded(
    predictor: Predictor, folder: EvaluationImages, batch_size: int, workers: int
) -> Iterator[_Batch]:
    numbers = list(range(len(folder)))
    batches = [numbers[i : i + batch_size] for i in range(0, len(numbers), batch_size)]
    encoder = predictor.encoder
    loader = view_loader(
        Attempts(folder), batches, workers, encoder.device.type == "cuda", collate_attempts
    )
    for batch, (views, reasons) in zip(batches, loader, strict=True):
        places = [i for i, why in zip(batch, reasons, strict=True) if why is None]
        errors = {i: why for i, why in zip(batch, reasons, strict=True) if why is not None}
        rows = None if views is None else encoder(views).cpu().numpy()
        yield _Batch(places, rows, errors, batch[-1] + 1)


def _csv(columns: dict[str, list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _write_parquet(file: Any, columns: dict[str, list[Any]]) -> None:
    # Imported here: an optional package.
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"probability": pa.float64(), "similarity": pa.float64(), "unknown": pa.bool_()}
    table = {
        name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()
    }
    pq.write_table(pa.table(table), file)
