"""Does pre-training pay? The encoder beside raw pixels and its own untrained self."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.encoder import FrozenEncoder, encoder_of
from msn_mm.evaluation.lowshot_metric import LowShotMetric
from msn_mm.evaluation.protocol import labelled_features
from msn_mm.models.backbones.raw_pixels import RawPixels
from msn_mm.utils.results import Table

Measured = Mapping[str, Any]


def compare_with_baselines(
    model: nn.Module,
    data: LabelledData,
    metric: LowShotMetric,
    train: Callable[[dict[str, dict[str, Any]]], object],
    batch_size: int = 64,
    workers: int = 0,
) -> dict[str, dict[str, Any]]:
    """Measure raw pixels and the untrained model, train, and measure again.

    All three see the same images, label splits and protocol. Measuring leaves
    no trace in the random state of the training.

    Args:
        model: Freshly initialised model; see :func:`~msn_mm.evaluation.encoder.encoder_of`.
        data: Support and query images.
        metric: What to measure.
        train: Trains ``model`` in place; it receives the first two measurements.
        batch_size: Images of a batch while measuring.
        workers: Data workers while measuring.

    Returns:
        ``{"raw_pixels", "untrained", "trained"}``, each as
        :attr:`~msn_mm.evaluation.lowshot_metric.LowShotMetric.last`.
    """

    def measure(encoder: FrozenEncoder) -> dict[str, Any]:
        features = labelled_features(encoder, data, batch_size=batch_size, workers=workers)
        assert features is not None  # one process
        metric.measure(features, class_names=data.classes)
        return metric.last

    pixels = RawPixels(in_channels=len(data.support[0]))
    measured = {
        "raw_pixels": measure(encoder_of(pixels, data_preprocessor={"mean": [0], "std": [1]})),
        "untrained": measure(encoder_of(model)),
    }
    train(dict(measured))
    measured["trained"] = measure(encoder_of(model))
    return measured


def columns_of(measured: Measured) -> list[str]:
    """Return the columns of a measurement: the low-shot counts ascending, then ``knn``."""
    return sorted((key for key in measured if key != "knn"), key=int) + ["knn"] * (
        "knn" in measured
    )


def accuracy_cells(rows: Mapping[str, Measured]) -> Table:
    """Return measurements, one row a kind of features.

    Args:
        rows: By the row's name what
            :attr:`~msn_mm.evaluation.lowshot_metric.LowShotMetric.last` holds.

    Returns:
        Top-1 accuracies in percent; low-shot cells are mean ± sample standard
        deviation over the label splits.
    """
    columns = columns_of(next(iter(rows.values())))
    return Table(
        ["top-1 accuracy (%)", *(_heading(column) for column in columns)],
        [
            [name, *(_cell(column, measured[column]) for column in columns)]
            for name, measured in rows.items()
        ],
    )


def accuracy_table(rows: Mapping[str, Measured]) -> str:
    """Lay out :func:`accuracy_cells` as plain text."""
    return accuracy_cells(rows).text()


def verdict(trained: Measured, baseline: Measured, names: Sequence[str]) -> str:
    """Say in a sentence whether the trained features beat the baseline, column by column.

    Args:
        trained: Measurement of the trained encoder.
        baseline: Measurement of the baseline.
        names: What to call the two.

    Returns:
        One line.
    """
    gains = {
        column: _mean(column, trained[column]) - _mean(column, baseline[column])
        for column in columns_of(trained)
    }
    numbers = ", ".join(f"{gain:+.1f} ({_short(column)})" for column, gain in gains.items())
    lowshot = [gain for column, gain in gains.items() if column != "knn"] or list(gains.values())
    if all(gain > 0 for gain in lowshot):
        sentence = f"{names[0]} beats {names[1]}"
    elif any(gain > 0 for gain in lowshot):
        sentence = f"{names[0]} beats {names[1]} in some columns only"
    else:
        sentence = f"{names[0]} does not beat {names[1]}"
    return f"{sentence}; difference in points: {numbers}."


def _mean(column: str, value: Measured) -> float:
    return float(value["top1"] if column == "knn" else value["top1_mean"])


def _heading(column: str) -> str:
    if column == "knn":
        return "k-NN, all labels"
    return f"{column} label{'s' if column != '1' else ''} a class"


def _short(column: str) -> str:
    return "k-NN" if column == "knn" else f"{column} a class"


def _cell(column: str, value: Measured) -> str:
    if column == "knn":
        return f"{value['top1']:.1f}"
    return f"{value['top1_mean']:.1f} ± {value['top1_std']:.1f}"
