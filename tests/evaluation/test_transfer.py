"""How many labels a transfer learns from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation.splits import low_shot_split
from msn_mm.evaluation.transfer import label_splits


def _data(a_class: int = 6) -> Any:
    labels = np.tile(np.arange(4), a_class)
    return SimpleNamespace(support_labels=labels, classes=tuple("abcd"), name="toy")


def test_a_number_is_shared_by_the_classes_and_all_takes_every_image() -> None:
    chosen = label_splits(_data(), ["8", "all"], splits=3, seed=2)
    assert list(chosen) == ["8 labels", "all labels"]
    for k, subset in enumerate(chosen["8 labels"]):
        assert np.bincount(_data().support_labels[subset]).tolist() == [2, 2, 2, 2]
        np.testing.assert_array_equal(subset, low_shot_split(_data().support_labels, 2, k, 2))
    assert [len(subset) for subset in chosen["all labels"]] == [24]


def test_every_image_makes_one_split() -> None:
    assert [len(subset) for subset in label_splits(_data(), ["24"], 3)["24 labels"]] == [24]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("10", "toy: 10 labels cannot be shared evenly by 4 classes"),
        ("0", "--labels is '0'"),
        ("many", "--labels is 'many'"),
        ("28", r"7 labelled images per class .* class 'a' has 6"),
    ],
)
def test_impossible_numbers(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        label_splits(_data(), [word], splits=1)
    with pytest.raises(UserError, match="0 label splits"):
        label_splits(_data(), ["8"], splits=0)
