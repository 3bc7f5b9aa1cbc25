"""Two processes are one: losses, gradients, weights and statistics, in float64.

Each rank takes every second image of the joint batch. Everything that spans the
batch must span the ranks: batch norm, Sinkhorn, the mean prediction.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.optim.decay_groups import decay_groups
from msn_mm.models.ops.distributed import logsumexp_over_ranks
from msn_mm.models.ops.ema import ema_update_, linear_momentum
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from tests.helpers import leaving_group
from tests.two_processes import start_two

BATCH, FOCAL, STEPS = 8, 3, 4


def make_model(loss: dict):
    from tests.models.test_msn import tiny_msn

    return tiny_msn(loss=loss).double().train()


def make_batch(step: int, rank: int, world: int):
    """This rank's rows of the joint batch of a step, view-major."""
    g = torch.Generator().manual_seed(100 + step)

    def group(views, side):
        images = torch.randn(views, BATCH, 3, side, side, generator=g, dtype=torch.float64)
        keys = torch.randint(0, 2**32, (views, BATCH), generator=g)
        mine = slice(rank, None, world)
        return {"images": images[:, mine].flatten(0, 1), "key": keys[:, mine].flatten()}

    return {"target": group(1, 32), "anchor": group(1, 32), "focal": group(FOCAL, 16)}


def train(rank: int, world: int, loss: dict) -> dict:
    model = make_model(loss)
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    optimizer = torch.optim.SGD(decay_groups(model), lr=0.1, momentum=0.9, weight_decay=0.04)
    pairs = [
        (list(source.parameters()), list(target.parameters()))
        for source, target in model.ema_pairs()
    ]
    losses, gradients = [], []
    for step in range(STEPS):
        out = wrapped(make_batch(step, rank, world), mode="loss")
        optimizer.zero_grad()
        (out["loss_msn"] + out["loss_me_max"]).backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
        optimizer.step()
        for source, target in pairs:
            ema_update_(target, source, linear_momentum(step, STEPS, 0.9))
        mean = torch.stack([out["loss_msn"], out["loss_me_max"], out["mean_entropy"]]).detach()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean / world)
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    return {"losses": torch.stack(losses), "gradients": gradients, "state": state}


def batch_norm(rank: int, world: int, _: int) -> dict:
    torch.manual_seed(0)
    layer = SyncBatchNorm(5).double().train()
    x = torch.randn(BATCH, 5, dtype=torch.float64) * 3 + 7
    weight = torch.randn(BATCH, 5, dtype=torch.float64)
    mine = slice(rank, None, world)
    inputs = x[mine].clone().requires_grad_()
    out = layer(inputs)
    (out * weight[mine]).sum().backward()
    for parameter in layer.parameters():
        if world > 1:
            dist.all_reduce(parameter.grad)
    spread = logsumexp_over_ranks(100 * x[mine], dim=0)
    gradient = layer.weight.grad.clone()
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    few = []
    for rows in (0, 1) if world > 1 else ():  # one joint row: the first rank's
        own = x[: rows if rank == 0 else 0].clone().requires_grad_()
        result = layer(own)
        result.sum().backward()
        few += [result.detach(), own.grad, layer.weight.grad.clone()]
    return {
        "few": few,
        "changed": [n for n, v in layer.state_dict().items() if not torch.equal(v, state[n])],
        "out": out.detach(),
        "grad": inputs.grad,
        "weight": gradient,
        "mean": layer.running_mean,
        "var": layer.running_var,
        "lse": spread,
    }


@leaving_group()
def worker(rank: int, port: int, what, argument, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(what(rank, 2, argument), Path(folder) / f"{rank}.pt")


def on_two(what, argument, folder: Path) -> list[dict]:
    start_two(worker, what, argument, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(
    "loss",
    [
        dict(type="MSNLoss", sinkhorn_iterations=3),
        dict(type="MSNLoss", sinkhorn_iterations=0),
        dict(type="PMSNLoss", sinkhorn_iterations=2, exponent=0.5),
    ],
    ids=["sinkhorn", "no sinkhorn", "prior"],
)
def test_two_ranks_train_as_one(tmp_path, loss):
    one = train(0, 1, loss)
    ranks = on_two(train, loss, tmp_path)
    for two in ranks:
        assert torch.allclose(two["losses"], one["losses"], atol=1e-11, rtol=0)
        for step in range(STEPS):
            assert two["gradients"][step].keys() == one["gradients"][step].keys()
            for name, gradient in one["gradients"][step].items():
                assert torch.allclose(two["gradients"][step][name], gradient, atol=1e-9), name
        for name, value in one["state"].items():
            assert torch.allclose(two["state"][name], value, atol=1e-10), name
    assert all(torch.equal(ranks[0]["state"][n], v) for n, v in ranks[1]["state"].items())


def test_batch_norm_over_two_ranks_is_torch_s_over_one(tmp_path):
    torch.manual_seed(0)
    reference = nn.BatchNorm1d(5).double().train()
    x = torch.randn(BATCH, 5, dtype=torch.float64) * 3 + 7
    weight = torch.randn(BATCH, 5, dtype=torch.float64)
    inputs = x.clone().requires_grad_()
    out = reference(inputs)
    (out * weight).sum().backward()
    for rank, two in enumerate(on_two(batch_norm, 0, tmp_path)):
        mine = slice(rank, None, 2)
        assert torch.allclose(two["out"], out[mine].detach(), atol=1e-12)
        assert torch.allclose(two["grad"], inputs.grad[mine], atol=1e-12)
        assert torch.allclose(two["weight"], reference.weight.grad, atol=1e-12)
        assert torch.allclose(two["mean"], reference.running_mean, atol=1e-12)
        assert torch.allclose(two["var"], reference.running_var, atol=1e-12)
        assert all(value.isfinite().all() for value in two["few"]) and not two["changed"]
        assert torch.allclose(two["lse"], (100 * x).logsumexp(0), atol=1e-9)


def test_batch_norm_on_one_process_and_in_eval_mode_is_torch_s():
    torch.manual_seed(0)
    ours, theirs = SyncBatchNorm(4), nn.BatchNorm1d(4)
    for _ in range(3):
        x = torch.randn(6, 4)
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == 3
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
