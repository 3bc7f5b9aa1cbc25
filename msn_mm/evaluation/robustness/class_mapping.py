"""Which output of a classifier stands for which class of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.robustness.imagenet_classes import (
    english_names,
    subset_wnids,
    wnid_outputs,
)

Outputs = NDArray[np.int64]


def outputs_of(
    classes: Sequence[str], outputs: int, data: str, known: Sequence[str] | None = None
) -> Outputs:
    """Return the output that stands for each class of a data set; see :func:`told_by`.

    Args:
        classes: Names of the classes, by label.
        outputs: How many outputs the classifier has.
        data: What to call the data in messages.
        known: Names of the classifier's classes by output, where known.

    Returns:
        ``(len(classes),)`` int64.

    Raises:
        UserError: The data have other classes than the classifier.
    """
    names = tuple(known) if known is not None and len(known) == outputs else None
    how = told_by(classes, outputs, known)
    if how == "name":
        assert names is not None
        return _by_name(classes, names, data)
    if how == "wnid":
        if names is not None and names not in english_names():
            raise UserError(
                f"{data}: its classes are WordNet ids and those of the classifier are not "
                f"({', '.join(names[:3])}, ...); give a classifier of ImageNet, or folders that "
                "are called as its classes are"
            )
        wnids = wnid_outputs()
        return np.array([wnids[name] for name in classes], dtype=np.int64)
    if len(classes) != outputs:
        raise UserError(
            f"{data} has {len(classes)} classes and the classifier has {outputs} outputs; give "
            "images of the classes that it was trained on, one folder a class"
        )
    if names is not None and set(classes) & set(names):
        odd = sorted(set(classes) - set(names))[0]
        raise UserError(
            f"{data}: the classifier was not trained on class '{odd}'; its classes are "
            f"{', '.join(names[:5])}{', ...' if outputs > 5 else ''}"
        )
    return np.arange(outputs, dtype=np.int64)


def told_by(
    classes: Sequence[str], outputs: int, known: Sequence[str] | None = None
) -> Literal["name", "wnid", "order"]:
    """Return by what a data set's classes are told.

    Args:
        classes: Names of the classes, by label.
        outputs: How many outputs the classifier has.
        known: Names of the classifier's classes by output, where known.

    Returns:
        ``name`` where the classifier tells its classes and these are among them,
        ``wnid`` where it has 1,000 outputs and these are ImageNet's WordNet ids,
        else ``order``: one by one, the names of the data in ascending order.
    """
    if known is not None and len(known) == outputs and set(classes) <= set(known):
        return "name"
    wnids = wnid_outputs()
    return "wnid" if outputs == len(wnids) and set(classes) <= set(wnids) else "order"


def _by_name(classes: Sequence[str], names: tuple[str, ...], data: str) -> Outputs:
    if tuple(classes) == names:
        return np.arange(len(names), dtype=np.int64)
    times = Counter(names)
    double = next((name for name in classes if times[name] > 1), None)
    if double is not None:
        raise UserError(
            f"{data}: the classifier has {times[double]} classes of the name '{double}'; call the "
            "folders by WordNet id"
        )
    place = {name: output for output, name in enumerate(names)}
    return np.array([place[name] for name in classes], dtype=np.int64)


def subset_outputs(
    classes: Sequence[str],
    outputs: int,
    subset: str,
    data: str,
    known: Sequence[str] | None = None,
) -> Outputs:
    """Return the outputs that stand for the 200 classes of ImageNet-A or -R.

    The prediction is the largest of these outputs alone, as in the published
    evaluations of both.

    Args:
        classes: WordNet ids, the names of the data's folders.
        outputs: How many outputs the classifier has.
        subset: ``imagenet_a`` or ``imagenet_r``.
        data: What to call the data in messages.
        known: Names of the classifier's classes by output, where known.

    Raises:
        UserError: The data or the classifier have other classes.
    """
    check_imagenet(outputs, data)
    check_wnids(classes, subset_wnids(subset), data)
    return outputs_of(classes, outputs, data, known)


def check_imagenet(outputs: int, data: str) -> None:
    """Refuse a classifier of other classes than ImageNet-1K's.

    Raises:
        UserError: It has not 1,000 outputs.
    """
    if outputs != len(wnid_outputs()):
        raise UserError(
            f"{data} is for classifiers of ImageNet's {len(wnid_outputs()):,} classes and this "
            f"one has {outputs} outputs; for other classes there is --corrupt DIR"
        )


def check_wnids(classes: Sequence[str], wanted: Sequence[str], data: str) -> None:
    """Refuse data that have not one folder for each of some WordNet ids.

    Raises:
        UserError: One is missing, or there is another one.
    """
    missing = sorted(set(wanted) - set(classes))
    if missing:
        raise UserError(
            f"{data} lacks {len(missing)} of its {len(wanted)} classes, such as {missing[0]}; "
            "unpack all of it"
        )
    unknown = sorted(set(classes) - set(wanted))
    if unknown:
        raise UserError(
            f"{data} has a folder '{unknown[0]}' that is none of its {len(wanted)} classes; "
            "remove it, or give the folder that holds the class folders"
        )
