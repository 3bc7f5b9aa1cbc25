"""Two processes are one for MAE and MoCo v3, as copies and in shards, in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from msn_mm.engine.optim.decay_groups import decay_groups
from tests import ranks as ranks_of
from tests.models.test_mae import tiny_mae
from tests.models.test_mocov3 import tiny_mocov3
from tests.models.two_view_methods import pair
from tests.ranks import BATCH, assert_trained_as_one
from tests.test_fsdp import on_two


def batch_of(method: str, step: int, rank: int, world: int) -> Any:
    views = pair(BATCH, step, rank, world)
    if method == "mocov3":
        return views
    images = views["one"]["images"][:, :2].repeat(1, 1, 3, 3)[..., :32, :32]
    return {"image": {"images": images, "key": views["one"]["key"]}}


def train(method: str, wrapping: str) -> dict[str, Any]:
    model = (tiny_mae if method == "mae" else tiny_mocov3)().double().train()
    return ranks_of.train(model, wrapping, partial(batch_of, method), optimizer)


def optimizer(model: nn.Module) -> torch.optim.SGD:
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    return torch.optim.SGD(decay_groups(model), lr=0.1, momentum=0.9, weight_decay=0.04)


RUNS = [("mae", "ddp"), ("mae", "fsdp"), ("mocov3", "ddp"), ("mocov3", "fsdp")]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Starting processes takes most of the time, so all runs share them."""
    return on_two(train, *RUNS, folder=tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("method", ["mae", "mocov3"])
def test_two_ranks_and_shards_train_as_one(ranks, method: str) -> None:
    one = train(method, "none")
    for number in (k for k, run in enumerate(RUNS) if run[0] == method):
        two = ranks[0][number]
        assert_trained_as_one(two, one, losses=1e-10, others=1e-9, what=RUNS[number])
        if RUNS[number][1] == "ddp":  # shards are gathered on the first rank alone
            other = ranks[1][number]["state"]
            assert all(torch.equal(other[n], v) for n, v in two["state"].items())
