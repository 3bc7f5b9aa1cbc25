"""The order of data that is read by groups: which images are mixed, and how well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from msn_mm.datasets import HeldOut, KeyedSampler, LabelledCrop, LabelledViews, MultiViewDataset
from msn_mm.datasets import sampler as module
from msn_mm.datasets.windows import Windows

GROUPS = np.repeat(np.arange(10), [3, 7, 5, 5, 1, 4, 6, 2, 8, 5])


class Grouped:
    """A data set of 46 images in ten groups, of which three are read together."""

    metainfo: dict[str, Any] = {}

    def __init__(self, span: int = 3) -> None:
        self.told: list[list[int]] = []
        self.windows = Windows(GROUPS, span, lambda groups: self.told.append(list(groups)))

    def __len__(self) -> int:
        return len(GROUPS)

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {"gt_label": index % 2}


def order(seed: int = 3, epoch: int = 0, span: int = 3) -> list[int]:
    sampler = KeyedSampler(Grouped(span), seed=seed)
    sampler.set_epoch(epoch)
    return [int(key) for key in sampler]


def test_a_window_holds_whole_groups_and_mixes_them() -> None:
    found = order()
    assert sorted(found) == list(range(len(GROUPS)))
    groups = GROUPS[found]
    windows = []
    while len(groups):
        first = list(dict.fromkeys(groups))[:3]
        # Nothing of a fourth group comes before the last image of the first three.
        size = int(np.isin(GROUPS, first).sum())
        assert set(groups[:size]) == set(first)
        windows.append(first)
        if len(first) > 1:
            changes = int((groups[1:size] != groups[: size - 1]).sum())
            assert changes > 3 or size < 8, "the groups of a window come one after another"
        groups = groups[size:]
    assert [len(window) for window in windows] == [3, 3, 3, 1]
    assert sorted(group for window in windows for group in window) == list(range(10))


def test_the_order_is_of_seed_and_epoch_alone() -> None:
    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    # Which groups share a window changes from epoch to epoch.
    first = [frozenset(GROUPS[order(0, epoch)[:3]]) for epoch in range(20)]
    assert len(set(first)) > 10


def test_every_image_comes_early_and_late() -> None:
    places = np.array([np.argsort(order(0, epoch)) for epoch in range(300)])
    # Means of 300 uniform places of 46 have a standard deviation of 0.77.
    assert np.abs(places.mean(0) - 22.5).max() < 4 * 0.77
    one_window = np.array([np.argsort(order(0, epoch, span=10)) for epoch in range(300)])
    # With all groups in the window two neighbours are as far apart as any two images.
    apart = np.abs(one_window[:, 0] - one_window[:, 1]).mean()
    assert abs(apart - 47 / 3) < 4 * 11 / np.sqrt(300)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("skip", [0, 12, 26])
def test_ranks_share_the_order_and_skipping_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, world: int, skip: int
) -> None:
    alone = order()
    parts = []
    for rank in range(world):
        monkeypatch.setattr(module, "get_dist_info", lambda r=rank: (r, world))
        sampler = KeyedSampler(Grouped(), seed=3)
        sampler.skip(skip)
        parts.append([int(key) for key in sampler])
        assert len(parts[-1]) == sampler.left
    joint = [image for step in zip(*parts, strict=True) for image in step]
    assert joint == alone[skip:]


def test_groups_are_announced_one_window_ahead() -> None:
    data = Grouped()
    sampler = iter(KeyedSampler(data, seed=3))
    next(sampler)
    groups = list(dict.fromkeys(GROUPS[order()]))
    windows = [set(groups[k : k + 3]) for k in range(0, 10, 3)]
    assert [set(told) for told in data.told] == [windows[0] | windows[1]]
    assert set(data.told[0][:3]) == windows[0]
    data.told.clear()
    list(sampler)
    assert [set(told) for told in data.told] == [
        windows[1] | windows[2],
        windows[2] | windows[3],
        windows[3],
    ]
    # A run that goes on in the last window has no use for the others.
    resumed = Grouped()
    sampler = KeyedSampler(resumed, seed=3)
    sampler.skip(len(GROUPS) - 1)
    list(sampler)
    assert [set(told) for told in resumed.told] == [windows[3]]


def test_a_part_of_the_data_is_read_in_windows_too() -> None:
    part = HeldOut(Grouped(), "train", 0.25)
    found = [int(key) for key in KeyedSampler(part, seed=3)]
    assert sorted(found) == list(range(len(part)))
    groups = list(dict.fromkeys(GROUPS[part.indices][found]))
    whole = [set(groups[k : k + 3]) for k in range(0, len(groups), 3)]
    seen = [int(GROUPS[part.indices][i]) for i in found]
    for window in whole:
        size = int(np.isin(GROUPS[part.indices], list(window)).sum())
        assert set(seen[:size]) == window
        seen = seen[size:]


def test_labelled_views_of_some_images_keep_to_the_groups() -> None:
    chosen = np.arange(0, len(GROUPS), 2)
    some = LabelledViews(Grouped(), LabelledCrop(16), indices=chosen.tolist())
    assert some.windows is not None
    assert np.array_equal(some.windows.groups, GROUPS[chosen]) and some.windows.span == 3
    whole = MultiViewDataset(LabelledViews(Grouped(), LabelledCrop(16)), lambda sample: sample)
    assert whole.windows is not None and len(whole.windows.groups) == len(GROUPS)


def test_in_order_without_shuffle() -> None:
    assert list(KeyedSampler(Grouped(), shuffle=False, seed=0)) == list(range(len(GROUPS)))


def test_an_impossible_window() -> None:
    with pytest.raises(ValueError, match="1 group or more, not 0"):
        Windows(GROUPS, 0)
