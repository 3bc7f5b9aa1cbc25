"""Linear transfer: how many labels the classifier of another data set learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.splits import Splits, low_shot_split

ALL = "all"


def label_splits(data: LabelledData, labels: Sequence[str], splits: int, seed: int = 0) -> Splits:
    """Choose the labelled images of a transfer (appendix C.5, and table 6's 4,000 labels).

    Args:
        data: The data set.
        labels: Numbers of labelled images over all classes, alike in each
            class, or ``"all"``, which takes the data as they are.
        splits: Label splits of each number below all.
        seed: Seed of the splits.

    Returns:
        By ``"4000 labels"`` or ``"all labels"`` the indices of each split.

    Raises:
        UserError: No splits, or a number that the classes cannot share evenly, or that some
            class has too few images for.
    """
    truth = data.support_labels
    if splits < 1:
        raise UserError(f"{splits} label splits measure nothing; ask for at least 1")
    classes = len(np.unique(truth))
    chosen: dict[str, list[np.ndarray]] = {}
    for word in labels:
        if word == ALL:
            chosen[f"{ALL} labels"] = [np.arange(len(truth))]
            continue
        if not (word.isascii() and word.isdigit()) or int(word) < 1:
            raise UserError(f"--labels is '{word}'; give a number of labelled images, or {ALL}")
        a_class, rest = divmod(int(word), classes)
        if rest:
            raise UserError(
                f"{data.name}: {word} labels cannot be shared evenly by {classes} classes; "
                f"give a multiple of {classes}"
            )
        # with every image taken, one split is like the other
        count = 1 if int(word) == len(truth) else splits
        chosen[f"{int(word)} labels"] = [
            low_shot_split(truth, a_class, k, seed, data.classes) for k in range(count)
        ]
    return chosen
