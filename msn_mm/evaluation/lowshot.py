"""Low-shot accuracy: L2-regularised logistic regression on frozen features.

The protocol of MSN (arXiv 2204.07141, Appendix C.2): a few labelled images a
class, one centre crop each, features of the frozen target encoder, and a
linear classifier by cyanure, whose objective has a unique minimiser.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.cross_validation import choose_lambda
from msn_mm.evaluation.features import center_and_normalize, check_finite
from msn_mm.evaluation.logistic_regression import (
    RELEASED_LAMBD,
    SOLVER,
    LinearClassifier,
    fit_logistic_regression,
)
from msn_mm.evaluation.splits import Splits, class_label, compact, draw_splits

__all__ = [
    "LinearClassifier",
    "evaluate_splits",
    "fit_logistic_regression",
    "low_shot_accuracy",
]

Lambda = float | Literal["cv"]


def evaluate_splits(
    support: NDArray[Any],
    support_labels: NDArray[Any],
    query: NDArray[Any],
    query_labels: NDArray[Any],
    splits: Splits,
    lambd: Lambda = RELEASED_LAMBD,
    tol: float = 1e-3,
    max_epochs: int = 300,
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
    seed: int = 0,
    solver: str = SOLVER,
) -> dict[str, dict[str, Any]]:
    """Accuracy of logistic regression on given labelled subsets.

    Args:
        support: ``(n, D)`` features that the splits index.
        support_labels: ``(n,)`` integers.
        query: ``(m, D)`` features to classify.
        query_labels: ``(m,)`` integers.
        splits: The labelled subsets, see :mod:`~msn_mm.evaluation.splits`.
        lambd: Regularisation of :func:`fit_logistic_regression`, or ``"cv"``:
            chosen for each subset by
            :func:`~msn_mm.evaluation.cross_validation.choose_lambda`.
        tol: Relative duality gap at which the solver stops.
        max_epochs: Most passes over the data of a fit.
        class_names: Names for error messages, indexed by label.
        progress: Called with the number of finished subsets and of all, first
            with 0.
        seed: Seed of the cross-validation's folds.
        solver: Algorithm of the fits, see :func:`fit_logistic_regression`.

    Returns:
        By column of ``splits``, one item a split in each list:

        - ``top1``, ``top1_mean``, ``top1_std``: accuracy in percent; the
          sample standard deviation (``ddof=1``), 0 for a single split;
        - ``top5``, ``top5_mean``, ``top5_std``: likewise for the true label
          among the five most likely; left out with five classes or fewer;
        - ``lambd``: the regularisation used, and ``lambd_from``: ``given``,
          ``cross-validation``, or ``released`` where a class with a single
          image left cross-validation nothing to do;
        - ``gap``: relative duality gap of the fit, above ``tol`` when
          ``max_epochs`` were too few;
        - ``images``: labelled images;
        - ``seconds``: duration of the fit, cross-validation included.

        Of equally likely labels the smaller comes first.

    Raises:
        UserError: Features are not finite; or a class of the query images has
            no image in a labelled subset.
        ValueError: There are no query images, or shapes do not fit.
    """
    _check_shapes(support, support_labels, query, query_labels)
    union, local = compact(splits)
    labels = np.asarray(support_labels)[union]
    _check_classes(labels, query_labels, local, class_names)
    check_finite(support)
    check_finite(query)
    features = _normalised(support, union)
    asked = _normalised(query, np.arange(len(query)))
    total = sum(map(len, splits.values()))
    done = 0
    metrics: dict[str, dict[str, Any]] = {}
    for column, subsets in local.items():
        values: dict[str, list[Any]] = {}
        for subset in subsets:
            if progress is not None:
                progress(done, total)
            started = time.perf_counter()
            chosen, source = _regularisation(
                lambd, features[subset], labels[subset], tol, max_epochs, seed, solver
            )
            classifier = fit_logistic_regression(
                features[subset], labels[subset], chosen, tol, max_epochs, solver=solver
            )
            seconds = time.perf_counter() - started
            ranks = classifier.ranks(asked, query_labels)
            one: dict[str, Any] = accuracies(ranks, len(classifier.classes))
            one |= {"lambd": chosen, "lambd_from": source}
            one |= {"gap": classifier.gap, "images": len(subset), "seconds": seconds}
            for key, value in one.items():
                values.setdefault(key, []).append(value)
            done += 1
        metrics[column] = summarise(values)
    if progress is not None:
        progress(done, total)
    return metrics


def low_shot_accuracy(
    support_features: NDArray[Any],
    support_labels: NDArray[Any],
    query_features: NDArray[Any],
    query_labels: NDArray[Any],
    images_per_class: Sequence[int] = (1, 2, 5),
    splits: int = 10,
    lambd: Lambda = RELEASED_LAMBD,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Accuracy of logistic regression on a few randomly drawn labelled images a class.

    Args:
        support_features: ``(n, D)`` features that the splits draw from.
        support_labels: ``(n,)`` integers.
        query_features: ``(m, D)`` features to classify.
        query_labels: ``(m,)`` integers.
        images_per_class: Numbers of labelled images a class.
        splits: Number of label splits for each of them; see
            :func:`~msn_mm.evaluation.splits.draw_splits`.
        lambd: Regularisation, see :func:`evaluate_splits`.
        seed: Seed of the splits.
        class_names: Names for error messages, indexed by label.

    Returns:
        ``{"1": {"top1_mean", "top1_std", "top1": [one a split], ...}, ...}``, what
        :func:`evaluate_splits` returns without ``seconds``: the same arguments
        give an equal result.

    Raises:
        UserError: A class has fewer support images than asked for, and what
            :func:`evaluate_splits` raises.
        ValueError: ``splits`` below 1, or no image counts.
    """
    drawn = draw_splits(
        support_labels, images_per_class, splits=splits, seed=seed, class_names=class_names
    )
    measured = evaluate_splits(
        support_features,
        support_labels,
        query_features,
        query_labels,
        drawn,
        lambd,
        class_names=class_names,
        seed=seed,
    )
    return {
        column: {key: value for key, value in values.items() if key != "seconds"}
        for column, values in measured.items()
    }


def _regularisation(
    lambd: Lambda,
    features: NDArray[np.float64],
    labels: NDArray[Any],
    tol: float,
    max_epochs: int,
    seed: int,
    solver: str,
) -> tuple[float, str]:
    if lambd != "cv":
        return float(lambd), "given"
    choice = choose_lambda(
        features, labels, tol=tol, max_epochs=max_epochs, seed=seed, solver=solver
    )
    return choice.lambd, "cross-validation" if choice.cross_validated else "released"


def summarise(values: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Put mean and sample standard deviation of ``top1`` and ``top5`` before their lists."""
    summary: dict[str, Any] = {}
    for key, each in values.items():
        if key in ("top1", "top5"):
            summary[f"{key}_mean"] = float(np.mean(each))
            summary[f"{key}_std"] = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
        summary[key] = each
    return summary


def accuracies(ranks: NDArray[np.int64], classes: int) -> dict[str, float]:
    """Return ``top1`` and, with more than five classes, ``top5``, in percent.

    Args:
        ranks: ``(m,)`` labels more likely than the true one.
        classes: How many labels there are.
    """
    tops = {"top1": 1, "top5": 5} if classes > 5 else {"top1": 1}
    return {name: _percent(ranks < top) for name, top in tops.items()}


def _percent(right: NDArray[np.bool_]) -> float:
    return 100.0 * int(right.sum()) / len(right)


def _normalised(features: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centre and normalise some rows, a block at a time: one float64 copy and little more."""
    rows = np.empty((len(indices), features.shape[1]))
    for start in range(0, len(indices), 4096):
        block = slice(start, start + 4096)
        rows[block] = center_and_normalize(features[indices[block]])
    return rows


def _check_shapes(
    support: NDArray[Any],
    support_labels: NDArray[Any],
    query: NDArray[Any],
    query_labels: NDArray[Any],
) -> None:
    if len(query) == 0:
        raise ValueError("there is no query image to classify")
    for part, features, labels in (
        ("support", support, support_labels),
        ("query", query, query_labels),
    ):
        if features.ndim != 2 or labels.shape != (len(features),):
            raise ValueError(
                f"{part} features {features.shape} and labels {labels.shape} do not fit"
            )
    if support.shape[1] != query.shape[1]:
        raise ValueError(
            f"support features of width {support.shape[1]} and query features of width "
            f"{query.shape[1]} do not fit"
        )


def _check_classes(
    labels: NDArray[Any],
    query_labels: NDArray[Any],
    splits: Splits,
    class_names: Sequence[str] | None,
) -> None:
    asked = np.unique(query_labels)
    for column, subsets in splits.items():
        for number, subset in enumerate(subsets):
            missing = np.setdiff1d(asked, labels[subset])
            if len(missing):
                name = class_label(int(missing[0]), class_names)
                raise UserError(
                    f"query images have class {name}, of which split {number} of column "
                    f"'{column}' has no labelled image; add one, or remove that class from the "
                    "query images"
                )
