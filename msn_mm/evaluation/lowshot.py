"""Low-shot accuracy: L2-regularised logistic regression on frozen features.

The protocol of MSN (arXiv 2204.07141, Appendix C.2): a few labelled images a
class, one centre crop each, features of the frozen target encoder, and a
linear classifier by cyanure, whose objective has a unique minimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from cyanure.estimators import Classifier
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.features import center_and_normalize
from msn_mm.evaluation.splits import low_shot_split


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier without intercept.

    Attributes:
        weights: ``(D, K)``, one column a class.
        classes: ``(K,)`` the label of each column, ascending.
    """

    weights: NDArray[np.float64]
    classes: NDArray[np.int64]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the ``(n,)`` most likely labels of ``(n, D)`` features; a tie goes to the
        smallest label."""
        return self.classes[np.argmax(features @ self.weights, axis=1)]


def fit_logistic_regression(
    features: NDArray[np.float64],
    labels: NDArray[Any],
    lambd: float = 0.0025,
    tol: float = 1e-3,
    max_epochs: int = 300,
    gap_interval: int = 10,
    seed: int = 0,
) -> LinearClassifier:
    """Minimise ``mean_i CE(softmax(W^T x_i), y_i) + lambd / (2 n) ||W||^2`` over W.

    The features are used as they are: normalise them first with
    :func:`~msn_mm.evaluation.features.center_and_normalize`.

    Args:
        features: ``(n, D)`` float64.
        labels: ``(n,)`` integers, any values; at least two different ones.
        lambd: Regularisation; cyanure receives ``lambd / n``.
        tol: Relative duality gap at which the solver stops.
        max_epochs: Most passes over the data.
        gap_interval: Passes between two looks at the duality gap (``it0`` of
            older cyanure releases).
        seed: Seed of the solver's sampling.

    Returns:
        The classifier.

    Raises:
        UserError: Fewer than two classes.
        ValueError: ``lambd`` is not above zero, or shapes do not fit.
    """
    if not lambd > 0:
        raise ValueError(f"lambd must be above 0, not {lambd}")
    if features.ndim != 2 or labels.shape != (len(features),):
        raise ValueError(f"features {features.shape} and labels {labels.shape} do not fit")
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError("logistic regression needs labelled images of at least 2 classes")
    n = len(features)
    # cyanure treats two classes as one binary problem with a single vector w.
    # The two columns of the softmax problem are then -w/2 and w/2, whose
    # penalty is half of ||w||^2: hence the halved regularisation.
    binary = len(classes) == 2
    solver = Classifier(
        loss="logistic" if binary else "multiclass-logistic",
        penalty="l2",
        lambda_1=lambd / n / (2 if binary else 1),
        fit_intercept=False,
        tol=tol,
        solver="auto",
        max_iter=max_epochs,
        duality_gap_interval=gap_interval,
        random_state=seed,
        verbose=False,
        n_threads=1,
    )
    rows = np.ascontiguousarray(features, dtype=np.float64)
    # cyanure sets OpenMP's thread count, which each thread has its own of: in
    # this thread, a training would go on with one after its first validation,
    # and restoring the count afterwards has given NaN in later matrix products
    with ThreadPoolExecutor(max_workers=1) as apart:
        apart.submit(solver.fit, rows, targets.astype(np.int64)).result()
    weights = np.asarray(solver.coef_, dtype=np.float64)
    if binary:
        weights = np.stack([-weights / 2, weights / 2], axis=1)
    return LinearClassifier(weights.reshape(features.shape[1], len(classes)), classes)


def low_shot_accuracy(
    support_features: NDArray[Any],
    support_labels: NDArray[Any],
    query_features: NDArray[Any],
    query_labels: NDArray[Any],
    images_per_class: Sequence[int] = (1, 2, 5),
    splits: int = 10,
    lambd: float = 0.0025,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Top-1 accuracy of logistic regression on a few labelled images a class.

    Args:
        support_features: ``(n, D)`` features that the splits draw from.
        support_labels: ``(n,)`` integers.
        query_features: ``(m, D)`` features to classify.
        query_labels: ``(m,)`` integers.
        images_per_class: Numbers of labelled images a class.
        splits: Number of label splits for each of them.
        lambd: Regularisation of :func:`fit_logistic_regression`.
        seed: Seed of the splits.
        class_names: Names for error messages, indexed by label.

    Returns:
        ``{"1": {"top1_mean", "top1_std", "top1": [one a split]}, ...}`` in
        percent. ``top1_std`` is the sample standard deviation over the splits
        (``ddof=1``), 0 for a single split.

    Raises:
        UserError: A class has fewer support images than asked for.
        ValueError: ``splits`` below 1, or no image counts.
    """
    if splits < 1:
        raise ValueError(f"splits must be at least 1, not {splits}")
    if len(images_per_class) == 0:
        raise ValueError("images_per_class must name at least one number of images")
    support = center_and_normalize(support_features)
    query = center_and_normalize(query_features)
    names = list(class_names) if class_names is not None else None
    # all splits are drawn before the first fit, so that too many shots fail at once
    chosen = {
        shots: [low_shot_split(support_labels, shots, s, seed, names) for s in range(splits)]
        for shots in images_per_class
    }
    metrics: dict[str, dict[str, Any]] = {}
    for shots, subsets in chosen.items():
        top1 = []
        for subset in subsets:
            classifier = fit_logistic_regression(support[subset], support_labels[subset], lambd)
            correct = int((classifier.predict(query) == query_labels).sum())
            top1.append(100.0 * correct / len(query_labels))
        metrics[str(shots)] = {
            "top1_mean": float(np.mean(top1)),
            "top1_std": float(np.std(top1, ddof=1)) if splits > 1 else 0.0,
            "top1": top1,
        }
    return metrics
