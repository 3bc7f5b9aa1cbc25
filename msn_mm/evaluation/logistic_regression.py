"""L2-regularised multinomial logistic regression without intercept, solved by cyanure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError

RELEASED_LAMBD = 0.0025
"""Regularisation of the example call in MSN's released evaluation."""

RELEASED_TOL = 1e-3
"""Relative duality gap at which MSN's released evaluation stops."""

SOLVER = "auto"
"""Algorithm of MSN's released evaluation: ``qning-ista`` below 1,000 images, ``qning-miso`` from
there on. With many classes ``qning-ista`` stays 2 to 6 times as fast and ends nearer the optimum
(benchmarks/low_shot_solver.py); the objective and its only minimiser are the same."""

SOLVERS = ("auto", "qning-ista", "qning-miso", "catalyst-miso")

# entries of one block of class scores (32 MiB of float64)
_BLOCK_ENTRIES = 1 << 22


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier without intercept.

    Attributes:
        weights: ``(D, K)``, one column a class.
        classes: ``(K,)`` the label of each column, ascending.
        passes: Passes over the data that the fit took.
        gap: Relative duality gap that the fit ended with: the objective is at
            most this part of itself above the minimum.
    """

    weights: NDArray[np.float64]
    classes: NDArray[np.int64]
    passes: int = 0
    gap: float = math.nan

    def decision_function(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ``(n, K)`` class scores of ``(n, D)`` features, the logits of a softmax."""
        return features @ self.weights

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the ``(n,)`` most likely labels of ``(n, D)`` features; a tie goes to the
        smallest label."""
        return self.top_k(features, 1)[:, 0]

    def top_k(self, features: NDArray[np.float64], k: int) -> NDArray[np.int64]:
        """Return the ``(n, min(k, K))`` most likely labels, best first.

        Among equal scores the smaller label comes first.

        Raises:
            ValueError: k below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        best = [
            np.argmax(scores, axis=1)[:, None]
            if k == 1
            else np.argsort(-scores, axis=1, kind="stable")[:, :k]
            for _, scores in self._blocks(features)
        ]
        return self.classes[np.concatenate(best)] if best else np.empty((0, k), np.int64)

    def ranks(self, features: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Count the labels that are more likely than the true one.

        An image is right among the k best when its count is below k. Memory
        stays bounded for any number of images.

        Args:
            features: ``(n, D)``.
            labels: ``(n,)``, every one a class of this classifier.

        Returns:
            ``(n,)``, 0 for a correct prediction. Of labels with equal scores
            the smaller ones count as more likely.
        """
        columns = np.searchsorted(self.classes, labels)
        counts = np.empty(len(features), dtype=np.int64)
        for block, scores in self._blocks(features):
            counts[block] = score_ranks(scores, columns[block])
        return counts

    def log_loss(self, features: NDArray[np.float64], labels: NDArray[Any]) -> float:
        """Return the summed cross-entropy of ``(n, D)`` features and ``(n,)`` labels, in nats."""
        columns = np.searchsorted(self.classes, labels)
        total = 0.0
        for block, scores in self._blocks(features):
            total += score_log_loss(scores, columns[block])
        return total

    def _blocks(self, features: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        rows = max(1, _BLOCK_ENTRIES // len(self.classes))
        for start in range(0, len(features), rows):
            block = slice(start, start + rows)
            yield block, self.decision_function(features[block])


def score_ranks(scores: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.int64]:
    """Count the ``(n, K)`` scores above that of each row's true column.

    Args:
        scores: Finite class scores.
        columns: ``(n,)`` true columns.

    Returns:
        ``(n,)``, 0 for a correct prediction. Of equal scores those of earlier
        columns count as higher.
    """
    true = columns[:, None]
    own = np.take_along_axis(scores, true, axis=1)
    above = np.count_nonzero(scores > own, axis=1)
    tied, which = np.nonzero(scores == own)
    return above + np.bincount(tied[which < true[tied, 0]], minlength=len(scores))


def score_log_loss(scores: NDArray[Any], columns: NDArray[Any]) -> float:
    """Return the summed cross-entropy of ``(n, K)`` logits and ``(n,)`` true columns, in nats."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    own = np.take_along_axis(shifted, columns[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - own).sum())


def fit_logistic_regression(
    features: NDArray[np.float64],
    labels: NDArray[Any],
    lambd: float = RELEASED_LAMBD,
    tol: float = RELEASED_TOL,
    max_epochs: int = 300,
    gap_interval: int = 10,
    seed: int = 0,
    solver: str = SOLVER,
    threads: int = 1,
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
        solver: cyanure's algorithm, one of :data:`SOLVERS`; they differ in speed,
            not in the optimum.
        threads: Most cores to use.

    Returns:
        The classifier. Its gap is above ``tol`` when ``max_epochs`` were too few.

    Raises:
        UserError: Fewer than two classes.
        ValueError: ``lambd`` is not above zero, shapes do not fit, or an unknown solver.
        RuntimeError: The solver gave weights that are not finite.
    """
    if not lambd > 0:
        raise ValueError(f"lambd must be above 0, not {lambd}")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, not '{solver}'")
    if features.ndim != 2 or labels.shape != (len(features),):
        raise ValueError(f"features {features.shape} and labels {labels.shape} do not fit")
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError("logistic regression needs labelled images of at least 2 classes")
    n = len(features)
    # Imported here: they bring scipy along, for which a training would wait at its start.
    from cyanure.estimators import Classifier
    from sklearn.exceptions import ConvergenceWarning

    # cyanure treats two classes as one binary problem with a single vector w.
    # The two columns of the softmax problem are then -w/2 and w/2, whose
    # penalty is half of ||w||^2: hence the halved regularisation.
    binary = len(classes) == 2
    model = Classifier(
        loss="logistic" if binary else "multiclass-logistic",
        penalty="l2",
        lambda_1=lambd / n / (2 if binary else 1),
        fit_intercept=False,
        tol=tol,
        solver=solver,
        max_iter=max_epochs,
        duality_gap_interval=gap_interval,
        random_state=seed,
        verbose=False,
        n_threads=threads,
    )
    rows = np.ascontiguousarray(features, dtype=np.float64)
    # cyanure sets OpenMP's thread count, which each thread has its own of: in
    # this thread, a training would go on with one after its first validation,
    # and restoring the count afterwards has given NaN in later matrix products
    with ThreadPoolExecutor(max_workers=1) as apart, warnings.catch_warnings():
        # the gap tells it, and tells apart who arrived with the last pass
        warnings.simplefilter("ignore", ConvergenceWarning)
        apart.submit(model.fit, rows, targets.astype(np.int64)).result()
    weights = np.asarray(model.coef_, dtype=np.float64)
    if not np.isfinite(weights).all():
        raise RuntimeError(f"cyanure gave weights that are not finite (lambd={lambd}, tol={tol})")
    if binary:
        weights = np.stack([-weights / 2, weights / 2], axis=1)
    looks = model.optimization_info_[0]
    last = int(np.argmax(looks[0]))
    return LinearClassifier(
        weights.reshape(features.shape[1], len(classes)),
        classes,
        passes=int(looks[0, last]),
        gap=float(looks[3, last]),
    )
