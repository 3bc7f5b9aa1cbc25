"""Choose the regularisation by cross-validation inside the labelled images.

Nothing here ever sees a query image: the labelled images are all that a user
with few labels has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from msn_mm.evaluation.logistic_regression import RELEASED_LAMBD, SOLVER, fit_logistic_regression

T = TypeVar("T", bound=Hashable)

LAMBDAS = (0.00025, 0.0025, 0.008, 0.025, 0.08, 0.25, 0.8, 2.5, 8.0, 25.0)
"""The values tried by default: the released one and half decades above it. Below it one is
enough: on unit-norm features the accuracy hardly changes there, and these fits take longest."""

MAX_FOLDS = 5

Scores = Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.float64]]
"""From who is learnt from and who is asked to the ``(asked, K)`` scores."""


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

    def held_out(
        lambd: float, train: NDArray[np.bool_], asked: NDArray[np.bool_]
    ) -> tuple[int, float]:
        classifier = fit_logistic_regression(
            features[train], labels[train], lambd, tol, max_epochs, seed=seed, solver=solver
        )
        right = classifier.ranks(features[asked], labels[asked]) == 0
        return int(right.sum()), classifier.log_loss(features[asked], labels[asked])

    tried = cross_validate(labels, lambdas, held_out, seed)
    if tried is None:
        return Choice(RELEASED_LAMBD, False, {}, {})
    best = max(tried, key=lambda lambd: (tried[lambd][0], -tried[lambd][1], lambd))
    n = len(labels)
    return Choice(
        best,
        True,
        {lambd: 100.0 * hits / n for lambd, (hits, _) in tried.items()},
        {lambd: total / n for lambd, (_, total) in tried.items()},
    )


def cross_validate(
    labels: NDArray[Any],
    values: Sequence[T],
    held_out: Callable[[T, NDArray[np.bool_], NDArray[np.bool_]], tuple[int, float]],
    seed: int = 0,
    max_folds: int = MAX_FOLDS,
) -> dict[T, tuple[int, float]] | None:
    """Try values of a setting, every image held out once.

    Args:
        labels: ``(n,)`` integers, of the labelled images alone.
        values: What to try.
        held_out: Learns with a value from the images of the first mask, and
            returns of the second one's how many it has right, and their summed
            cross-entropy.
        seed: Seed of the folds.
        max_folds: The folds are as many as the scarcest class has images, and
            at most these.

    Returns:
        By value the right images of all n and their summed cross-entropy; ``None``
        when some class has one image only, for that leaves none to learn from
        or none to be asked.
    """
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() == 1:
        return None
    fold = stratified_folds(labels, min(max_folds, int(counts.min())), seed)
    found = {value: (0, 0.0) for value in values}
    for number in range(int(fold.max()) + 1):
        asked = fold == number
        for value, (correct, loss) in found.items():
            hits, more = held_out(value, ~asked, asked)
            found[value] = (correct + hits, loss + more)
    return found


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


def folds_of(labels: NDArray[Any]) -> int:
    """Return in how many folds images can be held out: one for each of the scarcest class.

    They are at most 5, and 1 where nothing can be held out.
    """
    return min(MAX_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))


def out_of_fold(
    labels: NDArray[np.int64], scores: Scores, seed: int = 0
) -> NDArray[np.float64] | None:
    """Return the ``(n, K)`` scores of all images, each held out once.

    Args:
        labels: ``(n,)`` with all of 0 to K - 1.
        scores: Learns from the images of the first mask and asks those of the second.
        seed: Seed of the folds.

    Returns:
        ``None`` when a class has one image only: there would be none to learn from.
    """
    folds = folds_of(labels)
    if folds < 2:
        return None
    fold = stratified_folds(labels, folds, seed)
    found = np.empty((len(labels), int(labels.max()) + 1))
    for number in range(folds):
        asked = fold == number
        found[asked] = scores(~asked, asked)
    return found
