"""Elastic distortion: known displacements move known pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msn_mm.datasets import Digits
from msn_mm.datasets.view_ops.elastic import ElasticWarp


def test_equal_displacements_are_a_shift() -> None:
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    params = torch.zeros(1, 18)
    params[:, :9] = 2 / 16  # x of all nodes: one pixel, in half sides of 8
    moved = ElasticWarp.apply(image.clone(), params)
    assert torch.allclose(moved[..., :-1], image[..., 1:], atol=1e-5)
    assert torch.allclose(moved[..., -1], image[..., -1], atol=1e-5), "borders repeat"


def test_one_node_moves_its_own_corner_only() -> None:
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    params = torch.zeros(1, 18)
    params[:, 0] = 0.2  # x of the upper left node
    change = (ElasticWarp.apply(image.clone(), params) - image).abs()[0, 0]
    assert change[:8, :8].mean() > 20 * change[24:, 24:].mean()
    assert change[:8, :8].mean() > 0.05


def test_draws() -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([ElasticWarp(0.1, p=0.5).draw(rng) for _ in range(4000)])
    acts = draws.any(axis=1)
    assert draws.dtype == np.float32 and draws.shape == (4000, ElasticWarp.width)
    assert acts.mean() == pytest.approx(0.5, abs=0.03)
    assert draws[acts].std() == pytest.approx(0.1, rel=0.02)


def test_rows_without_a_draw_stay_bitwise() -> None:
    images = torch.rand(3, 1, 16, 16)
    params = torch.zeros(3, 18)
    params[1] = 0.1
    out = ElasticWarp.apply(images.clone(), params)
    assert torch.equal(out[[0, 2]], images[[0, 2]])
    assert not torch.allclose(out[1], images[1], atol=1e-3)
    assert torch.equal(ElasticWarp.apply(images.clone(), torch.zeros(3, 18)), images)


def test_the_reference_has_the_same_spread() -> None:
    from PIL import Image

    pixels = Digits("all").get_data_info(3)["img"][..., 0]
    op = ElasticWarp(0.15)
    torch.manual_seed(0)
    bend = op.reference()
    slow = np.stack([np.asarray(bend(Image.fromarray(pixels))) for _ in range(300)]) / 255
    rng = np.random.default_rng(0)
    params = torch.from_numpy(np.stack([op.draw(rng) for _ in range(300)]))
    images = torch.from_numpy(pixels / 255).float()[None, None].repeat(300, 1, 1, 1)
    fast = ElasticWarp.apply(images, params)[:, 0].numpy()
    np.testing.assert_allclose(slow.mean(0), fast.mean(0), atol=0.1)
    assert slow.std(0).mean() == pytest.approx(fast.std(0).mean(), rel=0.1)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="magnitude"):
        ElasticWarp(-0.1)
    with pytest.raises(ValueError, match="p must lie"):
        ElasticWarp(0.1, p=2.0)
