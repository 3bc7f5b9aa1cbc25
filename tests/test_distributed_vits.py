"""Two processes are one for MAE and MoCo v3, as copies and in shards, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.fsdp.shards import gather
from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.engine.optim.decay_groups import decay_groups
from msn_mm.models.ops.distributed import local_part
from msn_mm.models.ops.ema import ema_update_
from tests.models.test_mae import tiny_mae
from tests.models.test_mocov3 import tiny_mocov3
from tests.models.two_view_methods import pair
from tests.test_fsdp import on_two

BATCH, STEPS = 8, 3


def batch_of(method: str, step: int, rank: int, world: int) -> Any:
    views = pair(BATCH, step, rank, world)
    if method == "mocov3":
        return views
    images = views["one"]["images"][:, :2].repeat(1, 1, 3, 3)[..., :32, :32]
    return {"image": {"images": images, "key": views["one"]["key"]}}


def train(method: str, wrapping: str) -> dict[str, Any]:
    if wrapping != "none" and not dist.is_initialized():
        dist.init_process_group("gloo")
    rank, world = (dist.get_rank(), 2) if wrapping != "none" else (0, 1)
    model = (tiny_mae if method == "mae" else tiny_mocov3)().double().train()
    wrapped: nn.Module = model
    if wrapping == "ddp":
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    if wrapping == "fsdp":
        wrapped = FullyShardedModel(model)
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    optimizer = torch.optim.SGD(decay_groups(model), lr=0.1, momentum=0.9, weight_decay=0.04)
    losses, gradients = [], []
    for step in range(STEPS):
        out = wrapped(batch_of(method, step, rank, world), mode="loss")
        optimizer.zero_grad()
        out[f"loss_{method}"].backward()
        state = {n: p.grad.detach() for n, p in model.named_parameters() if p.grad is not None}
        gradients.append(gather(state) if wrapping == "fsdp" else state)
        gradients[-1] = {n: g.clone() for n, g in gradients[-1].items()}
        optimizer.step()
        for source, target in getattr(model, "ema_pairs", list)():
            ema_update_(
                [local_part(p.detach()) for p in target.parameters()],
                [local_part(p.detach()) for p in source.parameters()],
                0.8,
            )
        mean = torch.stack([value.double() for value in out.values()]).detach()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean / world)
    state = model.state_dict()
    return {
        "losses": torch.stack(losses),
        "gradients": gradients,
        "state": dict(gather(state) if wrapping == "fsdp" else state),
    }


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
        assert torch.allclose(two["losses"], one["losses"], atol=1e-10, rtol=0), RUNS[number]
        for step in range(STEPS):
            assert two["gradients"][step].keys() == one["gradients"][step].keys()
            for name, gradient in one["gradients"][step].items():
                close = torch.allclose(two["gradients"][step][name], gradient, atol=1e-9)
                assert close, (RUNS[number], step, name)
        for name, value in one["state"].items():
            if "num_batches" not in name:
                assert torch.allclose(two["state"][name], value, atol=1e-9), (number, name)
        if RUNS[number][1] == "ddp":  # shards are gathered on the first rank alone
            other = ranks[1][number]["state"]
            assert all(torch.equal(other[n], v) for n, v in two["state"].items())
