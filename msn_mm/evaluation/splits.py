"""Which labelled images a low-shot split may see.

A split is a pure function of (seed, split number, labels), never of the method
under test, so two methods are always compared on the same labelled images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError


def low_shot_split(
    labels: NDArray[Any],
    images_per_class: int,
    split: int,
    seed: int = 0,
    class_names: tuple[str, ...] | list[str] | None = None,
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
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be a non-empty vector of integers, not {labels.dtype} of {labels.shape}"
        )
    if images_per_class < 1:
        raise ValueError(f"images_per_class must be at least 1, not {images_per_class}")
    if split < 0 or seed < 0:
        raise ValueError(f"split and seed must not be negative, not {split} and {seed}")
    classes, counts = np.unique(labels, return_counts=True)
    scarcest = int(np.argmin(counts))
    if counts[scarcest] < images_per_class:
        label = int(classes[scarcest])
        name = f"'{class_names[label]}'" if class_names is not None else str(label)
        have = int(counts[scarcest])
        raise UserError(
            f"{images_per_class} labelled images per class were asked for, but class {name} has "
            f"{have}; ask for at most {have}, or add labelled images of that class"
        )
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    chosen = [
        _generator(seed, split, int(label)).permutation(indices)[:images_per_class]
        for label, indices in zip(classes, members, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _generator(seed: int, split: int, label: int) -> np.random.Generator:
    # zigzag keeps a negative label (some data sets use -1) a legal entropy word
    zigzag = 2 * label if label >= 0 else -2 * label - 1
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, split, zigzag])))
