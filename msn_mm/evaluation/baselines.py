"""Does pre-training pay? The encoder beside raw pixels and its own untrained self."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from msn_mm.errors import UserError
from msn_mm.evaluation.features import Features
from msn_mm.evaluation.lowshot_metric import LowShotMetric
from msn_mm.evaluation.protocol import features_of
from msn_mm.utils.results import format_table

Measured = Mapping[str, Any]


def raw_pixels(dataloader: Iterable[dict[str, Any]]) -> Features:
    """Take the flattened images of a data loader as their own features.

    Args:
        dataloader: Yields evaluation batches: ``inputs`` uint8 ``(B, C, H, W)``
            and ``data_samples`` with ``label`` and ``support``.

    Returns:
        Features of width ``C * H * W``, values 0 to 255.

    Raises:
        UserError: The data loader is empty.
    """
    # a data loader draws its workers' seed from torch's global generator
    with torch.random.fork_rng(devices=[]):
        batches = [
            (
                torch.as_tensor(batch["inputs"]).flatten(1).to(torch.float32),
                torch.as_tensor(batch["data_samples"]["label"]),
                torch.as_tensor(batch["data_samples"]["support"]),
            )
            for batch in dataloader
        ]
    if not batches:
        raise UserError("the evaluation data loader gives no images")
    pixels, labels, support = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    return Features(pixels, labels.astype(np.int64), support.astype(np.bool_))


def compare_with_baselines(
    model: nn.Module,
    dataloader: DataLoader,
    metric: LowShotMetric,
    train: Callable[[dict[str, dict[str, Any]]], object],
) -> dict[str, dict[str, Any]]:
    """Measure raw pixels and the untrained model, train, and measure again.

    All three see the same images, label splits and protocol.

    Args:
        model: Freshly initialised model; see :func:`~msn_mm.evaluation.extract.extract`.
        dataloader: Evaluation data loader of support and query images.
        metric: What to measure.
        train: Trains ``model`` in place; it receives the first two measurements.

    Returns:
        ``{"raw_pixels", "untrained", "trained"}``, each as
        :attr:`~msn_mm.evaluation.lowshot_metric.LowShotMetric.last`.
    """
    names = getattr(dataloader.dataset, "metainfo", {}).get("classes")

    def measure(features: Features) -> dict[str, Any]:
        metric.measure(features, class_names=names)
        return metric.last

    measured = {
        "raw_pixels": measure(raw_pixels(dataloader)),
        "untrained": measure(features_of(model, dataloader)),
    }
    train(dict(measured))
    measured["trained"] = measure(features_of(model, dataloader))
    return measured


def columns_of(measured: Measured) -> list[str]:
    """Return the columns of a measurement: the low-shot counts ascending, then ``knn``."""
    return sorted((key for key in measured if key != "knn"), key=int) + ["knn"] * (
        "knn" in measured
    )


def accuracy_table(rows: Mapping[str, Measured]) -> str:
    """Lay out measurements, one row a kind of features.

    Args:
        rows: By the row's name what
            :attr:`~msn_mm.evaluation.lowshot_metric.LowShotMetric.last` holds.

    Returns:
        A plain-text table of top-1 accuracies in percent; low-shot cells are
        mean ± sample standard deviation over the label splits.
    """
    columns = columns_of(next(iter(rows.values())))
    return format_table(
        ["top-1 accuracy (%)", *(_heading(column) for column in columns)],
        [
            [name, *(_cell(column, measured[column]) for column in columns)]
            for name, measured in rows.items()
        ],
    )


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
