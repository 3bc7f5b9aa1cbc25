"""Resampling of learned positions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from msn_mm.models.ops.position import resample_positions, resampling_matrix


@pytest.mark.parametrize(("side", "other"), [(14, 6), (32, 13), (14, 28), (28, 12), (56, 24)])
def test_equals_bicubic_interpolation_by_scale_factor(side, other):
    torch.manual_seed(0)
    positions = torch.randn(1, side * side, 8, dtype=torch.float64)
    # How released MSN models resample: by the square root of the ratio of token counts.
    factor = math.sqrt(other**2 / side**2)
    expected = F.interpolate(
        positions.reshape(1, side, side, 8).permute(0, 3, 1, 2),
        scale_factor=factor,
        mode="bicubic",
    )
    assert expected.shape[-2:] == (other, other)
    got = resample_positions(positions, (side, side), (other, other))
    assert torch.allclose(got, expected.permute(0, 2, 3, 1).flatten(1, 2), atol=1e-12)


def test_rows_sum_to_one_and_grids_may_be_oblong():
    matrix = resampling_matrix((4, 6), (3, 9))
    assert matrix.shape == (27, 24)
    assert torch.allclose(matrix.sum(1), torch.ones(27, dtype=torch.float64))
    rows = torch.arange(4.0)[:, None].expand(4, 6).reshape(1, 24, 1)
    got = resample_positions(rows, (4, 6), (3, 9)).reshape(3, 9)
    assert torch.allclose(got, got[:, :1].expand(3, 9), atol=1e-6), "rows must stay rows"


def test_same_grid_is_the_identity_and_gradients_flow():
    positions = torch.randn(1, 9, 2, requires_grad=True)
    assert resample_positions(positions, (3, 3), (3, 3)) is positions
    resample_positions(positions, (3, 3), (2, 2)).sum().backward()
    assert positions.grad is not None and positions.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (
            "dino",
            lambda s, t: dict(scale_factor=tuple((b + 0.1) / a for a, b in zip(s, t, strict=True))),
        ),
        ("timm", lambda s, t: dict(size=t, antialias=True)),
    ],
)
@pytest.mark.parametrize("target", [(6, 6), (5, 9), (20, 20)])
def test_equals_the_interpolation_of_other_families(kind, how, target):
    torch.manual_seed(0)
    source = (14, 14)
    positions = torch.randn(1, 14 * 14, 4, dtype=torch.float64)
    grid = positions.reshape(1, *source, 4).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, mode="bicubic", **how(source, target))
    assert expected.shape[-2:] == target
    got = resample_positions(positions, source, target, kind)
    assert torch.allclose(got, expected.permute(0, 2, 3, 1).flatten(1, 2), atol=1e-12)
    assert not torch.allclose(got, resample_positions(positions, source, target), atol=1e-3)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'nearest'"):
        resampling_matrix((3, 3), (2, 2), "nearest")
