"""A network that runs over its views a few at a time trains as over all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from msn_mm.engine.batch import BatchPlan
from msn_mm.errors import UserError
from msn_mm.models.classifiers.trunk_classifier import TrunkClassifier
from msn_mm.models.ops import micro_batch
from msn_mm.models.ops.ema import ema_update_
from msn_mm.models.ops.micro_batch import in_pieces
from msn_mm.utils.peak_memory import PeakMemory
from msn_mm.utils.training_cost import TrainingCost
from tests.models.test_dino import dino_views, tiny_dino
from tests.models.test_ibot import tiny_ibot
from tests.models.test_mae import tiny_mae
from tests.models.test_mae import view as mae_view
from tests.models.test_mocov3 import BACKBONE as SMALL_VIT
from tests.models.test_mocov3 import tiny_mocov3
from tests.models.test_msn import BACKBONE, tiny_msn, views
from tests.models.two_view_methods import pair, tiny_byol, tiny_simclr

DEEP = dict(BACKBONE, drop_path_rate=0.3)
RECOMPUTED = dict(DEEP, checkpointing=True)
TWO_VIEW_VIT = dict(SMALL_VIT, drop_path_rate=0.3)


def labelled(batch: int = 6, seed: int = 0) -> dict[str, Any]:
    images = views(batch, seed=seed)["target"]
    labels = torch.arange(batch) % 3
    return {"inputs": images["images"], "data_samples": {"key": images["key"], "label": labels}}


def tiny_classifier(**changes: Any) -> TrunkClassifier:
    torch.manual_seed(0)
    head = dict(type="LinearClsHead", num_classes=3, loss=dict(type="CrossEntropyLoss"))
    return TrunkClassifier(DEEP, head, **changes)


# A method, and the batch of a step: rows that 4 does not divide among them.
METHODS: dict[str, tuple[Callable[..., nn.Module], Callable[[int], Any]]] = {
    "msn": (lambda **k: tiny_msn(backbone=DEEP, **k), lambda s: views(6, seed=s)),
    "msn, blocks recomputed": (
        lambda **k: tiny_msn(backbone=RECOMPUTED, **k),
        lambda s: views(6, seed=s),
    ),
    "msn, one mask": (
        lambda **k: tiny_msn(backbone=DEEP, shared_mask=True, **k),
        lambda s: views(6, seed=s),
    ),
    "dino": (tiny_dino, lambda s: dino_views(5, seed=s)),
    "ibot": (tiny_ibot, lambda s: dino_views(5, seed=s)),
    "mae": (tiny_mae, lambda s: {"image": mae_view(6, seed=s)}),
    "mocov3": (lambda **k: tiny_mocov3(backbone=TWO_VIEW_VIT, **k), lambda s: pair(6, s)),
    "byol": (lambda **k: tiny_byol(backbone=TWO_VIEW_VIT, **k), lambda s: pair(6, s)),
    "simclr": (lambda **k: tiny_simclr(backbone=TWO_VIEW_VIT, **k), lambda s: pair(6, s)),
    "classifier": (tiny_classifier, lambda s: labelled(seed=s)),
}


def double(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: double(item) for name, item in value.items()}
    return value.double() if value.is_floating_point() else value


def train(method: str, size: int | None, steps: int = 3) -> dict[str, Any]:
    """Losses, gradients and the state behind a few steps, in float64."""
    build, batch = METHODS[method]
    model: Any = build(micro_batch=size).double().train()
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, 0.9)
    losses, gradients = [], []
    for step in range(steps):
        inputs = double(batch(step))
        out = model(**inputs, mode="loss") if method == "classifier" else model.loss(inputs)
        optimizer.zero_grad()
        sum(value for name, value in out.items() if name.startswith("loss")).backward()
        losses.append(torch.stack([v.detach().double() for v in out.values()]))
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
        optimizer.step()
        for source, target in getattr(model, "ema_pairs", list)():
            ema_update_([*target.parameters()], [p.detach() for p in source.parameters()], 0.8)
    return {"losses": losses, "gradients": gradients, "state": model.state_dict()}


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many rows each piece has."""
    seen: list[int] = []
    original = micro_batch.checkpoint

    def noting(function: Any, *rows: Any, **settings: Any) -> Any:
        seen.append(len(rows[0]))
        return original(function, *rows, **settings)

    monkeypatch.setattr(micro_batch, "checkpoint", noting)
    return seen


@pytest.mark.parametrize("method", list(METHODS))
def test_training_is_that_of_the_whole_batch(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(method, None)
    for size in (4, 1):
        pieces = count_passes(monkeypatch)
        parts = train(method, size)
        assert max(pieces) == size and len(pieces) > 3
        for one, other in zip(whole["losses"], parts["losses"], strict=True):
            assert torch.allclose(one, other, atol=1e-11, rtol=0), size
        for one, other in zip(whole["gradients"], parts["gradients"], strict=True):
            assert one.keys() == other.keys()
            for name, gradient in one.items():
                assert torch.allclose(gradient, other[name], atol=1e-10, rtol=0), (size, name)
        for name, value in whole["state"].items():
            assert torch.allclose(value, parts["state"][name], atol=1e-10, rtol=0), (size, name)


def step_bytes(size: int | None, images: int, **backbone: Any) -> tuple[int, int]:
    """Peak bytes of forward and backward, measured and predicted, in float32."""
    wide = dict(BACKBONE, img_size=64, embed_dim=48, depth=4, **backbone)
    model = tiny_msn(backbone=wide, micro_batch=size).train()
    g = torch.Generator().manual_seed(0)
    batch = {
        name: {
            "images": torch.randn(num * images, 3, side, side, generator=g),
            "key": torch.arange(num * images),
        }
        for name, num, side in (("target", 1, 64), ("anchor", 1, 64), ("focal", 3, 32))
    }
    held = [*model.parameters(), *model.buffers()]
    held += [tensor for view in batch.values() for tensor in view.values()]
    with PeakMemory(torch.device("cpu"), held) as memory:
        out = model.loss(batch)
        (out["loss_msn"] + out["loss_me_max"]).backward()
    sizes = {"target": dict(size=64), "anchor": dict(size=64), "focal": dict(size=32, num=3)}
    transform = dict(views=sizes)
    cfg = Config(dict(train_dataloader=dict(dataset=dict(transform=transform))))
    cost = TrainingCost.of(cfg, model)
    assert cost is not None
    predicted = cost.memory(BatchPlan(1, images, 1, images, 1.0), size)
    return memory.bytes, predicted.total - predicted.optimizer


def test_memory_is_bounded_by_the_micro_batch() -> None:
    measured = {}
    for size in (None, 16, 8, 4):
        measured[size], predicted = step_bytes(size, 16)
        # What is predicted is never too little, nor a third too much.
        assert measured[size] < predicted < 1.33 * measured[size], size
    assert measured[8] - measured[4] == pytest.approx((measured[16] - measured[8]) / 2, rel=0.1)
    assert measured[4] < 0.4 * measured[None]
    # Twice the images add their pixels, representations and heads, no activations of the trunk.
    more, _ = step_bytes(4, 32)
    whole, _ = step_bytes(None, 32)
    assert more - measured[4] < 0.15 * (whole - measured[None])
    lean, _ = step_bytes(4, 16, checkpointing=True)
    assert lean < measured[4]


@pytest.mark.parametrize("shared_cast", [False, True])
def test_bfloat16_gradients_do_not_lose_digits_with_the_number_of_pieces(
    shared_cast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shared_cast:  # what autocast would do of itself
        monkeypatch.setattr(micro_batch, "_own_casts", lambda _: contextlib.nullcontext())

    def gradients(size: int | None, amp: bool) -> Tensor:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 1))
        rows = torch.randn(512, 32, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            out = in_pieces(layers, size, rows)
        (out.float() + 1).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in layers.parameters()])

    exact = gradients(None, False)
    errors = [((gradients(n, True) - exact).norm() / exact.norm()).item() for n in (None, 2)]
    whole, pieces = errors
    assert pieces > 5 * whole if shared_cast else pieces < whole, errors


def test_rows_of_several_lengths_and_arguments_that_are_none() -> None:
    x, flags = torch.arange(10.0).requires_grad_(), torch.arange(10) % 3 == 0

    def pick(x: Tensor, nothing: None, flags: Tensor) -> tuple[Tensor, Tensor]:
        assert nothing is None
        return x * 2, x[flags] ** 2

    doubled, picked = in_pieces(pick, 4, x, None, flags)
    assert torch.equal(doubled, 2 * x) and torch.equal(picked, x[flags] ** 2)
    (gradient,) = torch.autograd.grad(picked.sum(), x)
    assert torch.equal(gradient, torch.where(flags, 2 * x, 0.0))
    with torch.no_grad():
        assert torch.equal(in_pieces(pick, 3, x, None, flags)[0], doubled)


def test_random_draws_within_a_piece_are_the_same_in_its_recomputation() -> None:
    weight = torch.ones(6, requires_grad=True)
    rows = torch.ones(12, 6)
    out = in_pieces(lambda rows: nn.functional.dropout(rows * weight, 0.5), 5, rows)
    out.sum().backward()
    assert torch.equal(weight.grad, out.detach().sum(0))


@pytest.mark.parametrize("build", [tiny_simclr, tiny_byol])
def test_batch_norm_in_the_trunk_is_refused(build: Callable[..., Any]) -> None:
    for size in (4, "auto"):
        with pytest.raises(UserError, match="PlainResNet has batch norm") as caught:
            build(micro_batch=size)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "many"])
def test_what_is_no_micro_batch_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match=r"model\.micro_batch is .* give a whole number"):
        tiny_msn(micro_batch=size)


def test_auto_is_settled_by_a_launch() -> None:
    model = tiny_msn(micro_batch="auto")
    with pytest.raises(UserError, match="which a launched training settles"):
        model.loss(views())
