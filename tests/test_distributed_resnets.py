"""Two processes are one for SimCLR, BYOL and the batch norm of feature maps, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.fsdp.shards import gather
from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.engine.optim.lars import LARS, LARSGroupsConstructor
from msn_mm.models.ops.distributed import local_part
from msn_mm.models.ops.ema import ema_update_
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from tests.models.two_view_methods import pair, tiny_byol, tiny_simclr
from tests.test_fsdp import on_two

BATCH, STEPS = 8, 3


def train(method: str, wrapping: str) -> dict[str, Any]:
    if wrapping != "none" and not dist.is_initialized():
        dist.init_process_group("gloo")
    rank, world = (dist.get_rank(), 2) if wrapping != "none" else (0, 1)
    model = (tiny_simclr if method == "simclr" else tiny_byol)().double().train()
    wrapped: nn.Module = model
    if wrapping == "ddp":
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    if wrapping == "fsdp":
        wrapped = FullyShardedModel(model)
    optimizer = LARS(LARSGroupsConstructor({"optimizer": {}}).groups(model), 0.5, 0.9, 1e-2, 0.1)
    losses, gradients = [], []
    for step in range(STEPS):
        out = wrapped(pair(BATCH, step, rank, world), mode="loss")
        loss = sum(value for name, value in out.items() if name.startswith("loss"))
        optimizer.zero_grad()
        loss.backward()
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


def feature_maps(kind: str, wrapping: str) -> dict[str, Any]:
    if wrapping != "none" and not dist.is_initialized():
        dist.init_process_group("gloo")
    rank, world = (dist.get_rank(), 2) if wrapping != "none" else (0, 1)
    torch.manual_seed(0)
    layer: nn.Module = (nn.BatchNorm2d if kind == "torch" else SyncBatchNorm)(3, momentum=0.2)
    layer = layer.double().train()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
        layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64) * 3 + 7
    weigh = torch.randn(6, 3, 4, 5, dtype=torch.float64)
    mine = slice(rank, None, world)
    inputs = x[mine].clone().requires_grad_()
    # A power, so that the gradient differs from place to place.
    out = layer(inputs)
    (out.pow(3) * weigh[mine]).sum().backward()
    for parameter in layer.parameters():
        if world > 1:
            dist.all_reduce(parameter.grad)
    return {
        "out": out.detach(),
        "grad": inputs.grad,
        "weight": layer.weight.grad,
        "bias": layer.bias.grad,
        **layer.state_dict(),
    }


def run(what: str, *arguments: str) -> dict[str, Any]:
    return (feature_maps if what == "maps" else train)(*arguments)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Starting processes takes most of the time, so all runs share them."""
    runs = [
        ("maps", "ours", "ddp"),
        *(("train", m, w) for m in ("simclr", "byol") for w in ("ddp", "fsdp")),
    ]
    return on_two(run, *runs, folder=tmp_path_factory.mktemp("ranks"))


def test_batch_norm_of_feature_maps_over_two_ranks_is_torch_s_over_one(ranks) -> None:
    one = feature_maps("torch", "none")
    for rank in range(2):
        two = ranks[rank][0]
        assert two.keys() == one.keys(), "and so are the names in the state dict"
        for name, value in one.items():
            rows = slice(rank, None, 2) if name in ("out", "grad") else slice(None)
            expected = value[rows] if value.ndim else value
            assert torch.allclose(two[name], expected, atol=1e-10), name


@pytest.mark.parametrize(("method", "first"), [("simclr", 1), ("byol", 3)])
def test_two_ranks_and_shards_train_as_one(ranks, method: str, first: int) -> None:
    one = train(method, "none")
    for number in (first, first + 1):
        two = ranks[0][number]
        # The share of pairs found first counts whole views.
        assert torch.allclose(two["losses"], one["losses"], atol=1e-9, rtol=0)
        for step in range(STEPS):
            assert two["gradients"][step].keys() == one["gradients"][step].keys()
            for name, gradient in one["gradients"][step].items():
                close = torch.allclose(two["gradients"][step][name], gradient, atol=1e-8)
                assert close, (number, step, name)
        for name, value in one["state"].items():
            if "num_batches" not in name:
                assert torch.allclose(two["state"][name], value, atol=1e-8), (number, name)
    assert all(
        torch.equal(ranks[1][first]["state"][n], v) for n, v in ranks[0][first]["state"].items()
    )


def test_batch_norm_on_one_process_is_torch_s_bitwise() -> None:
    torch.manual_seed(0)
    ours, theirs = SyncBatchNorm(4), nn.BatchNorm2d(4)
    for _ in range(2):
        x = torch.randn(3, 4, 5, 5)
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    with pytest.raises(ValueError, match=r"needs \(B, C\)"):
        ours(torch.randn(4))
