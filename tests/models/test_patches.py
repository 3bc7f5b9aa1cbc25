"""The patch embedding is the convolution that its weights belong to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from msn_mm.models.ops.patches import embed_patches


@pytest.mark.parametrize(
    ("shape", "channels", "settings"),
    [
        ((2, 3, 24, 24), 3, dict(kernel_size=8, stride=8)),
        ((2, 1, 21, 29), 1, dict(kernel_size=(4, 6), stride=(4, 6), bias=False)),
        ((1, 3, 20, 20), 3, dict(kernel_size=8, stride=4)),
        ((1, 4, 16, 16), 4, dict(kernel_size=4, stride=4, padding=2)),
    ],
)
def test_values_and_gradients_are_the_convolution_s(shape, channels, settings):
    torch.manual_seed(0)
    convolution = nn.Conv2d(channels, 5, **settings).double()
    images = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(convolution(images).flatten(2).transpose(1, 2))
    inputs = [images, *convolution.parameters()]
    found = []
    for tokens in (
        convolution(images).flatten(2).transpose(1, 2),
        embed_patches(convolution, images),
    ):
        found.append((tokens, *torch.autograd.grad((tokens * weights).sum(), inputs)))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
