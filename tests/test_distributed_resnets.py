"""Two processes are one for SimCLR, BYOL and the batch norm of feature maps, in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from msn_mm.engine.optim.lars import LARS, LARSGroupsConstructor
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from tests import ranks as ranks_of
from tests.models.two_view_methods import pair, tiny_byol, tiny_simclr
from tests.ranks import BATCH, assert_trained_as_one, join
from tests.test_fsdp import on_two


def train(method: str, wrapping: str) -> dict[str, Any]:
    model = (tiny_simclr if method == "simclr" else tiny_byol)().double().train()
    return ranks_of.train(model, wrapping, partial(pair, BATCH), optimizer)


def optimizer(model: nn.Module) -> LARS:
    return LARS(LARSGroupsConstructor({"optimizer": {}}).groups(model), 0.5, 0.9, 1e-2, 0.1)


def feature_maps(kind: str, wrapping: str) -> dict[str, Any]:
    rank, world = join(wrapping)
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
        # The share of pairs found first counts whole views.
        assert_trained_as_one(ranks[0][number], one, losses=1e-9, others=1e-8, what=number)
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
