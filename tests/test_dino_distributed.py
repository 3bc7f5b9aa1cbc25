"""DINO and iBOT on two processes are one, as copies and in shards: loss to centres, in float64."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.engine.optim.clipping import clip_each_norm_
from msn_mm.models.ops.distributed import local_part
from msn_mm.models.ops.ema import cosine_momentum, ema_update_
from tests.models.test_dino import tiny_dino
from tests.models.test_ibot import tiny_ibot
from tests.test_distributed import on_two

BATCH, STEPS = 8, 3
KINDS = ("dino", "ibot", "shards")


def make_batch(step: int, rank: int, world: int) -> dict[str, Any]:
    """This rank's rows of the joint batch of a step, view-major."""
    g = torch.Generator().manual_seed(100 + step)

    def group(views: int, side: int) -> dict[str, torch.Tensor]:
        images = torch.randn(views, BATCH, 3, side, side, generator=g, dtype=torch.float64)
        keys = torch.randint(0, 2**32, (views, BATCH), generator=g)
        mine = slice(rank, None, world)
        return {"images": images[:, mine].flatten(0, 1), "key": keys[:, mine].flatten()}

    return {"global_1": group(1, 32), "global_2": group(1, 32), "local": group(3, 16)}


def train(rank: int, world: int, kind: str) -> dict[str, Any]:
    """Some steps in float64; kind: "dino", "ibot", or "ibot" in shards."""
    model = (tiny_dino if kind == "dino" else tiny_ibot)().double().train()
    wrapped: Any = model
    if world > 1 and kind == "shards":
        wrapped = FullyShardedModel(model)
    elif world > 1:
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.04)
    losses, gradients = [], []
    for step in range(STEPS):
        out = wrapped(make_batch(step, rank, world), mode="loss")
        loss = sum(value for name, value in out.items() if name.startswith("loss"))
        optimizer.zero_grad()
        loss.backward()
        clip_each_norm_(trained, 0.5)
        gradients.append(
            {n: whole(p.grad) for n, p in model.named_parameters() if p.grad is not None}
        )
        if step == 0:  # as FrozenLayerHook does
            model.head.last_layer.weight.grad = None
        optimizer.step()
        for source, target in model.ema_pairs():
            momentum = cosine_momentum(step, STEPS, 0.9)
            pair = [[local_part(p.detach()) for p in m.parameters()] for m in (target, source)]
            ema_update_(*pair, momentum)
        for centre in model.centres():
            centre.step(torch.tensor(False))
        scalars = torch.stack([loss.detach(), out["mean_entropy"]])
        if world > 1:
            dist.all_reduce(scalars)
        losses.append(scalars / world)
    state = {name: whole(value) for name, value in model.state_dict().items()}
    return {"losses": torch.stack(losses), "gradients": gradients, "state": state}


def whole(value: torch.Tensor) -> torch.Tensor:
    full = value.full_tensor() if isinstance(value, DTensor) else value
    return full.detach().clone()


def train_all(rank: int, world: int, _: int) -> dict[str, Any]:
    # Starting processes takes most of the time, so the runs share them.
    return {kind: train(rank, world, kind) for kind in KINDS}


def test_two_ranks_train_as_one(tmp_path):
    """The gradients are clipped, and parameter by parameter, too."""
    single = train_all(0, 1, 0)
    ranks = on_two(train_all, 0, tmp_path)
    for kind in KINDS:
        one = single[kind]
        centres = [name for name in one["state"] if "centre" in name]
        assert len(centres) == (1 if kind == "dino" else 2)
        assert all(one["state"][name].abs().sum() > 0 for name in centres)
        for two in (ranks[0][kind], ranks[1][kind]):
            assert torch.allclose(two["losses"], one["losses"], atol=1e-11, rtol=0), kind
            for step in range(STEPS):
                assert two["gradients"][step].keys() == one["gradients"][step].keys()
                for name, gradient in one["gradients"][step].items():
                    other = two["gradients"][step][name]
                    assert torch.allclose(other, gradient, atol=1e-9), (kind, name)
            for name, value in one["state"].items():
                assert torch.allclose(two["state"][name], value, atol=1e-10), (kind, name)
        first, second = (rank[kind]["state"] for rank in ranks)
        assert all(torch.equal(first[name], value) for name, value in second.items())
