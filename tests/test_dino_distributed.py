"""DINO and iBOT on two processes are one: loss, gradients, weights and centres, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from msn_mm.models.ops.ema import cosine_momentum, ema_update_
from tests.test_distributed import on_two

BATCH, STEPS = 8, 3


def make_batch(step: int, rank: int, world: int) -> dict[str, Any]:
    """This rank's rows of the joint batch of a step, view-major."""
    g = torch.Generator().manual_seed(100 + step)

    def group(views: int, side: int) -> dict[str, torch.Tensor]:
        images = torch.randn(views, BATCH, 3, side, side, generator=g, dtype=torch.float64)
        keys = torch.randint(0, 2**32, (views, BATCH), generator=g)
        mine = slice(rank, None, world)
        return {"images": images[:, mine].flatten(0, 1), "key": keys[:, mine].flatten()}

    return {"global_1": group(1, 32), "global_2": group(1, 32), "local": group(3, 16)}


def train(rank: int, world: int, masked: int) -> dict[str, Any]:
    from tests.models.test_dino import tiny_dino
    from tests.models.test_ibot import tiny_ibot

    model = (tiny_ibot if masked else tiny_dino)().double().train()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    trained = [p for p in model.parameters() if p.requires_grad]
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.04)
    losses, gradients = [], []
    for step in range(STEPS):
        out = wrapped(make_batch(step, rank, world), mode="loss")
        loss = sum(value for name, value in out.items() if name.startswith("loss"))
        optimizer.zero_grad()
        loss.backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
        optimizer.step()
        for source, target in model.ema_pairs():
            momentum = cosine_momentum(step, STEPS, 0.9)
            ema_update_(list(target.parameters()), list(source.parameters()), momentum)
        for centre in model.centres():
            centre.step(torch.tensor(False))
        scalars = torch.stack([loss.detach(), out["mean_entropy"]])
        if world > 1:
            dist.all_reduce(scalars)
        losses.append(scalars / world)
    return {"losses": torch.stack(losses), "gradients": gradients, "state": model.state_dict()}


@pytest.mark.parametrize("masked", [0, 1], ids=["dino", "ibot"])
def test_two_ranks_train_as_one(tmp_path, masked):
    one = train(0, 1, masked)
    ranks = on_two(train, masked, tmp_path)
    centres = [name for name in one["state"] if "centre" in name]
    assert len(centres) == 1 + masked and all(one["state"][n].abs().sum() > 0 for n in centres)
    for two in ranks:
        assert torch.allclose(two["losses"], one["losses"], atol=1e-11, rtol=0)
        for step in range(STEPS):
            assert two["gradients"][step].keys() == one["gradients"][step].keys()
            for name, gradient in one["gradients"][step].items():
                assert torch.allclose(two["gradients"][step][name], gradient, atol=1e-9), name
        for name, value in one["state"].items():
            assert torch.allclose(two["state"][name], value, atol=1e-10), name
    assert all(torch.equal(ranks[0]["state"][n], v) for n, v in ranks[1]["state"].items())
