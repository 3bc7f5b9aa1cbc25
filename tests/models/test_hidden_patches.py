"""What methods tell of their masks is what their trained network is given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_dino import dino_views, tiny_dino
from tests.models.test_ibot import tiny_ibot
from tests.models.test_mae import tiny_mae, view
from tests.models.test_msn import tiny_msn, views

METHODS: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "MSN": (tiny_msn, views, "anchor"),
    "one mask": (lambda: tiny_msn(shared_mask=True), views, "anchor"),
    "iBOT": (tiny_ibot, dino_views, "global_1"),
    "MAE": (lambda: tiny_mae().double(), lambda: {"whole": view()}, "whole"),
}


def tokens_of(model: Any, inputs: Any) -> list[Tensor]:
    """What the first block of the trained network is given in a step."""
    given: list[Tensor] = []
    first = model.backbone.vit.blocks[0]
    handle = first.register_forward_pre_hook(lambda _, args: given.append(args[0].detach()))
    with handle:
        model.train().loss(inputs)
    return given


def changed(inputs: Any, name: str, patches: Tensor) -> Any:
    """The same views, other pixels in the patches ``(V * B, R, C)``."""
    inputs = copy.deepcopy(inputs)
    images = inputs[name]["images"]
    side = images.shape[-1] // patches.shape[1]
    pixels = patches.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
    inputs[name]["images"] = torch.where(pixels, images + 1.0, images)
    return inputs


@pytest.mark.parametrize("method", METHODS)
def test_pixels_of_hidden_patches_do_not_reach_the_network(method: str) -> None:
    build, make_views, name = METHODS[method]
    model, inputs = build(), make_views()
    hidden = model.hidden_patches(name, inputs[name])
    assert hidden.dtype == torch.bool and hidden.any() and not hidden.all()
    whole = tokens_of(model, inputs)
    after = tokens_of(model, changed(inputs, name, hidden))
    assert all(map(torch.equal, whole, after))
    for row, column in torch.nonzero(~hidden.all(0)).tolist():
        seen = torch.zeros_like(hidden)
        seen[:, row, column] = ~hidden[:, row, column]
        after = tokens_of(model, changed(inputs, name, seen))
        assert not all(map(torch.equal, whole, after)), f"patch {row}, {column} is hidden too"


@pytest.mark.parametrize(
    ("model", "name"),
    [(tiny_msn(), "target"), (tiny_msn(), "focal"), (tiny_ibot(), "local"), (tiny_dino(), "local")],
)
def test_views_that_are_seen_whole(model: Any, name: str) -> None:
    inputs = views() if name in ("target", "focal") else dino_views()
    assert model.hidden_patches(name, inputs[name]) is None
