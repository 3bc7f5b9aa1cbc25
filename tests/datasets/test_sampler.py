"""The sampler: one permutation, shared out evenly, whatever the number of ranks."""

from __future__ import annotations

import pytest

from msn_mm.datasets import KeyedSampler, SampleKey
from msn_mm.datasets import sampler as module
from msn_mm.datasets.keys import PERMUTATION_STREAM, philox
from msn_mm.errors import UserError


def ranks(monkeypatch: pytest.MonkeyPatch, world: int, total: int, epoch: int) -> list[list[int]]:
    out = []
    for rank in range(world):
        monkeypatch.setattr(module, "get_dist_info", lambda r=rank: (r, world))
        sampler = KeyedSampler(range(total), seed=3)
        sampler.set_epoch(epoch)
        out.append(list(sampler))
        assert len(sampler) == len(out[-1])
    return out


def test_every_image_once_and_keys_carry_seed_and_epoch() -> None:
    sampler = KeyedSampler(range(23), seed=3)
    sampler.set_epoch(4)
    keys = list(sampler)
    assert sorted(keys) == list(range(23)) and keys != list(range(23))
    assert all(isinstance(k, SampleKey) and (k.seed, k.epoch) == (3, 4) for k in keys)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = KeyedSampler(range(50), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(1, 0)


def test_in_order_without_shuffle() -> None:
    assert list(KeyedSampler(range(5), shuffle=False, seed=0)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("world", [2, 4])
def test_each_global_step_is_the_same_set_for_any_number_of_ranks(
    monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    alone = ranks(monkeypatch, 1, 43, epoch=2)[0]
    parts = ranks(monkeypatch, world, 43, epoch=2)
    assert len({len(part) for part in parts}) == 1 and len(parts[0]) == 43 // world
    assert not set(parts[0]) & set(parts[1])
    batch = 8
    for step in range(len(alone) // batch):
        own = batch // world
        joint = [i for part in parts for i in part[step * own : (step + 1) * own]]
        assert sorted(joint) == sorted(alone[step * batch : (step + 1) * batch])


def test_fewer_images_than_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_dist_info", lambda: (0, 4))
    with pytest.raises(UserError, match="holds 3 images, fewer than the 4 processes"):
        KeyedSampler(range(3), seed=0)


def test_a_long_epoch_is_whole() -> None:
    sampler = KeyedSampler(range(30_001), seed=3)
    sampler.set_epoch(2)
    keys = list(sampler)
    assert sorted(keys) == list(range(30_001)) and keys != sorted(keys)
    assert all((key.seed, key.epoch) == (3, 2) for key in keys[::1000])
    order = philox(3, 2, 0, 0, PERMUTATION_STREAM).permutation(30_001)
    assert keys == order.tolist()
