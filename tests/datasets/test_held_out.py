"""A share of each class held out: fixed, stratified, and with the rest the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from msn_mm.datasets import Digits, HeldOut
from msn_mm.errors import UserError


class Labels:
    """A data set of labels."""

    metainfo = {"classes": ("a", "b", "c")}

    def __init__(self, labels: list[Any]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def get_data_info(self, index: int) -> dict[str, Any]:
        label = self.labels[index]
        return {"number": index} | ({} if label is None else {"gt_label": label})


def numbers(data: HeldOut) -> list[int]:
    return [data.get_data_info(i)["number"] for i in range(len(data))]


def test_two_parts_are_the_whole() -> None:
    data = Labels([0] * 20 + [1] * 5 + [2] * 2 + [1] * 5)
    for seed in (0, 1):
        train, held = (HeldOut(data, part, 0.3, seed) for part in ("train", "held_out"))
        assert sorted(numbers(train) + numbers(held)) == list(range(32))
        labels = [held.get_data_info(i)["gt_label"] for i in range(len(held))]
        assert np.bincount(labels).tolist() == [6, 3, 1]  # never all of a class
        assert numbers(held) == numbers(HeldOut(data, "held_out", 0.3, seed))
        assert held.metainfo["classes"] == ("a", "b", "c")
    assert numbers(HeldOut(data, "held_out", 0.3, 1)) != numbers(HeldOut(data, "held_out", 0.3, 0))
    assert numbers(HeldOut(data, "train", 0.0)) == list(range(32))


def test_a_class_s_choice_depends_on_itself_alone() -> None:
    one = HeldOut(Labels([0] * 10), "held_out", 0.3)
    two = HeldOut(Labels([0] * 10 + [1] * 10), "held_out", 0.3)
    assert numbers(two)[:3] == numbers(one)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="part"):
        HeldOut(Labels([0, 0]), "test", 0.3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fraction"):
        HeldOut(Labels([0, 0]), "train", 1.0)
    with pytest.raises(UserError, match="no image is held out"):
        HeldOut(Labels([0, 1]), "held_out", 0.3)
    with pytest.raises(UserError, match="labels='folder'"):
        HeldOut(Labels([None]), "train", 0.3)


def test_digits() -> None:
    data = HeldOut(Digits("pretrain"), "held_out", 0.1)
    assert 120 <= len(data) <= 140 and "img" in data.get_data_info(0)
