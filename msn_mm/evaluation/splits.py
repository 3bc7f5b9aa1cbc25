"""Which labelled images a low-shot split may see.

A split is a pure function of (seed, split number, labels), never of the method
under test, so two methods are always compared on the same labelled images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError

Splits = Mapping[str, list[NDArray[np.int64]]]
"""By the column's name (``"5"`` images a class, ``"1%"``, ``"12811 images"``) one ascending
index array into the support set for each split."""


def low_shot_split(
    labels: NDArray[Any],
    images_per_class: int,
    split: int,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Draw one class-balanced labelled subset.

    Each class has its own random order, fixed by (seed, split, label), and the
    subset is the head of that order: the images of a smaller number of shots
    are contained in those of a larger one of the same split, and a class
    added to the data set changes nothing for the others.

    Args:
        labels: ``(n,)`` integer labels of the images to choose from.
        images_per_class: Number of images to take from every class.
        split: Number of the split, from 0.
        seed: Seed of the whole protocol.
        class_names: Names for error messages, indexed by label.

    Returns:
        ``(classes * images_per_class,)`` indices into ``labels``, ascending.

    Raises:
        UserError: Some class has fewer images than were asked for.
        ValueError: A negative seed or split, fewer than one image a class, or
            labels that are not a non-empty integer vector.
    """
    members = _Members(labels, class_names)
    sizes = members.balanced(images_per_class)
    return _heads(members.orders(split, seed), sizes)


def fraction_split(
    labels: NDArray[Any], fraction: float, split: int, seed: int = 0
) -> NDArray[np.int64]:
    """Draw one labelled subset that holds the same fraction of every class.

    A class of n images gives ``max(1, round(fraction * n))`` of them (a half
    goes to the even number), the head of the same random order as in
    :func:`low_shot_split`: the subset of a smaller fraction is contained in
    that of a larger one of the same split.

    Args:
        labels: ``(n,)`` integer labels of the images to choose from.
        fraction: Above 0, at most 1.
        split: Number of the split, from 0.
        seed: Seed of the whole protocol.

    Returns:
        Indices into ``labels``, ascending.

    Raises:
        UserError: The fraction is not above 0 and at most 1.
        ValueError: A negative seed or split, or labels that are not a
            non-empty integer vector.
    """
    members = _Members(labels)
    sizes = members.stratified(fraction)
    return _heads(members.orders(split, seed), sizes)


def draw_splits(
    labels: NDArray[Any],
    images_per_class: Sequence[int] = (),
    fractions: Sequence[float] = (),
    splits: int = 3,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> Splits:
    """Draw all splits of an evaluation.

    Args:
        labels: ``(n,)`` integer labels of the images to choose from.
        images_per_class: One column for each number, see :func:`low_shot_split`.
        fractions: One column for each, see :func:`fraction_split`.
        splits: Number of splits of a column. A column that takes every image
            has one, as there is no other.
        seed: Seed of the whole protocol.
        class_names: Names for error messages, indexed by label.

    Returns:
        ``{"1": [indices a split], ..., "1%": [...]}``, columns in the order given.

    Raises:
        UserError: Some class has fewer images than were asked for, or a
            fraction is impossible.
        ValueError: Nothing to draw, ``splits`` below 1, a negative seed, or
            labels that are not a non-empty integer vector.
    """
    if splits < 1:
        raise ValueError(f"splits must be at least 1, not {splits}")
    if len(images_per_class) + len(fractions) == 0:
        raise ValueError("images_per_class or fractions must name at least one number")
    members = _Members(labels, class_names)
    sizes = {str(shots): members.balanced(shots) for shots in images_per_class}
    sizes |= {f"{100 * part:.10g}%": members.stratified(part) for part in fractions}
    drawn: dict[str, list[NDArray[np.int64]]] = {column: [] for column in sizes}
    for split in range(splits):
        orders = members.orders(split, seed)
        for column, size in sizes.items():
            if split == 0 or size.sum() < members.total:
                drawn[column].append(_heads(orders, size))
    return drawn


def compact(splits: Splits) -> tuple[NDArray[np.int64], Splits]:
    """Number the images that any split uses from 0.

    Only those images need features.

    Args:
        splits: Indices into the whole support set.

    Returns:
        The ``(u,)`` ascending indices of the images in use, and the same
        splits as indices into these.
    """
    subsets = [subset for column in splits.values() for subset in column]
    union = np.unique(np.concatenate(subsets)).astype(np.int64)
    return union, {
        column: [np.searchsorted(union, subset).astype(np.int64) for subset in chosen]
        for column, chosen in splits.items()
    }


class _Members:
    """The images of each class."""

    def __init__(self, labels: NDArray[Any], class_names: Sequence[str] | None = None) -> None:
        labels = np.asarray(labels)
        if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                "labels must be a non-empty vector of integers, not "
                f"{labels.dtype} of {labels.shape}"
            )
        self.total = len(labels)
        self.classes, self.counts = np.unique(labels, return_counts=True)
        self.indices = np.split(np.argsort(labels, kind="stable"), np.cumsum(self.counts)[:-1])
        self.names = class_names

    def balanced(self, images_per_class: int) -> NDArray[np.int64]:
        """The same number of images for every class."""
        if images_per_class < 1:
            raise ValueError(f"images_per_class must be at least 1, not {images_per_class}")
        scarcest = int(np.argmin(self.counts))
        have = int(self.counts[scarcest])
        if have < images_per_class:
            name = class_label(int(self.classes[scarcest]), self.names)
            raise UserError(
                f"{images_per_class} labelled images per class were asked for, but class {name} "
                f"has {have}; ask for at most {have}, or add labelled images of that class"
            )
        return np.full(len(self.classes), images_per_class, dtype=np.int64)

    def stratified(self, fraction: float) -> NDArray[np.int64]:
        """The same part of every class, at least one image."""
        if not 0 < fraction <= 1:
            raise UserError(
                f"the fraction of labelled images must be above 0 and at most 1, not {fraction:g}; "
                "1 % is 0.01"
            )
        return np.maximum(1, np.rint(fraction * self.counts)).astype(np.int64)

    def orders(self, split: int, seed: int) -> list[NDArray[np.int64]]:
        """The images of each class in its own random order."""
        if split < 0 or seed < 0:
            raise ValueError(f"split and seed must not be negative, not {split} and {seed}")
        return [
            _generator(seed, split, int(label)).permutation(indices)
            for label, indices in zip(self.classes, self.indices, strict=True)
        ]


def class_label(label: int, class_names: Sequence[str] | None) -> str:
    """Word a class for an error message: its name in quotes where known, else its number."""
    known = class_names is not None and 0 <= label < len(class_names)
    return f"'{class_names[label]}'" if class_names is not None and known else str(label)


def _heads(orders: list[NDArray[np.int64]], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    chosen = [order[:size] for order, size in zip(orders, sizes, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _generator(seed: int, split: int, label: int) -> np.random.Generator:
    # zigzag keeps a negative label (some data sets use -1) a legal entropy word
    zigzag = 2 * label if label >= 0 else -2 * label - 1
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, split, zigzag])))
