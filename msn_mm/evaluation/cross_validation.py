"""Choose the regularisation by cross-validation inside the labelled images.

Nothing here ever sees a query image: the labelled images are all that a user
with few labels has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.evaluation.logistic_regression import RELEASED_LAMBD, SOLVER, fit_logistic_regression

LAMBDAS = (0.00025, 0.0025, 0.008, 0.025, 0.08, 0.25, 0.8, 2.5, 8.0, 25.0)
"""The values tried by default: the released one and half decades above it. Below it one is
enough: on unit-norm features the accuracy hardly changes there, and these fits take longest."""

MAX_FOLDS = 5


@dataclass(frozen=True)
class Choice:
    """A chosen regularisation and why.

    Attributes:
        lambd: The choice.
        cross_validated: False when some class has a single image, so that the
            released value was taken.
        accuracy: By value tried the held-out accuracy, in percent.
        log_loss: By value tried the mean held-out cross-entropy, in nats.
    """

    lambd: float
    cross_validated: bool
    accuracy: dict[float, float]
    log_loss: dict[float, float]


def choose_lambda(
    features: NDArray[np.float64],
    labels: NDArray[Any],
    lambdas: Sequence[float] = LAMBDAS,
    tol: float = 1e-3,
    max_epochs: int = 300,
    seed: int = 0,
    solver: str = SOLVER,
) -> Choice:
    """Choose the regularisation of :func:`fit_logistic_regression` by cross-validation.

    Every image is held out once, in ``min(5, images of the scarcest class)``
    stratified folds. The value with the most correct held-out predictions
    wins; of several the one with the lowest held-out cross-entropy, then the
    largest. ``lambd`` weighs ``||W||^2`` against the *sum* of the images'
    cross-entropies, so a value means the same on four fifths of the images.

    Args:
        features: ``(n, D)`` float64, the labelled images alone, normalised.
        labels: ``(n,)`` integers.
        lambdas: Values to try.
        tol: Tolerance of the fits.
        max_epochs: Most passes over the data of a fit.
        seed: Seed of the folds and of the fits.
        solver: Algorithm of the fits.

    Returns:
        The choice; the released 0.0025 when some class has one image only, for
        that leaves none to learn from or none to be asked.

    Raises:
        UserError: Fewer than two classes.
        ValueError: No values to try, or one that is not above zero.
    """
    if len(lambdas) == 0:
        raise ValueError("lambdas must name at least one value")
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() == 1:
        return Choice(RELEASED_LAMBD, False, {}, {})
    fold = stratified_folds(labels, min(MAX_FOLDS, int(counts.min())), seed)
    correct = {lambd: 0 for lambd in lambdas}
    loss = {lambd: 0.0 for lambd in lambdas}
    for number in range(int(fold.max()) + 1):
        held_out = fold == number
        train, asked = features[~held_out], features[held_out]
        for lambd in correct:
            classifier = fit_logistic_regression(
                train, labels[~held_out], lambd, tol, max_epochs, seed=seed, solver=solver
            )
            right = classifier.ranks(asked, labels[held_out]) == 0
            correct[lambd] += int(right.sum())
            loss[lambd] += classifier.log_loss(asked, labels[held_out])
    best = max(correct, key=lambda lambd: (correct[lambd], -loss[lambd], lambd))
    n = len(labels)
    return Choice(
        best,
        True,
        {lambd: 100.0 * hits / n for lambd, hits in correct.items()},
        {lambd: total / n for lambd, total in loss.items()},
    )


def stratified_folds(labels: NDArray[Any], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Deal the images of every class to folds.

    Args:
        labels: ``(n,)`` integers.
        folds: Number of folds.
        seed: Seed of the order in which a class is dealt.

    Returns:
        ``(n,)`` fold of each image. The folds' shares of a class differ by at
        most one image, and so do the sizes of the folds.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, folds])))
    shuffled = generator.permutation(len(labels))
    # class after class, each in random order, dealt like cards without a break
    dealt = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[dealt] = np.arange(len(labels)) % folds
    return fold
