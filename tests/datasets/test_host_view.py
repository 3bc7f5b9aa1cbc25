"""A view on the host, by OpenCV, against the batch on the device, by torch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from msn_mm.datasets import MultiCrop, SampleKey, multi_view_collate
from msn_mm.datasets.view_ops.base import ViewOp, host_function
from msn_mm.datasets.view_ops.blur import GaussianBlur
from msn_mm.datasets.view_ops.colour import ColorJitter, Grayscale
from msn_mm.datasets.view_ops.geometry import HorizontalFlip, Rotation
from msn_mm.datasets.view_ops.host import HostView
from msn_mm.datasets.view_ops.solarize import Solarize
from msn_mm.engine.launch import load_config
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

ONE, ZERO = np.ones(3, np.float32), np.zeros(3, np.float32)


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """Part of a photograph, with grey, black, white and saturated pixels put in."""
    pixels = np.array(load_sample_images().images[1][100:132, 200:232]).transpose(2, 0, 1)
    corners = list(itertools.product([0, 128, 255], repeat=3))
    pixels[:, 0, :27] = np.array(corners).T
    return np.ascontiguousarray(pixels)


def both(op: type[ViewOp], crop: np.ndarray, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (3, S, S) in [0, 1]: on the host and on the device."""
    numbers = params.astype(np.float32)
    view, out = HostView(crop), np.empty(crop.shape, np.float32)
    function = host_function(op)
    assert function is not None
    function(view, numbers)
    view.write(out, ONE, ZERO)
    batch = torch.from_numpy(crop)[None].float() * (1 / 255)
    return out, op.apply(batch, torch.from_numpy(numbers)[None])[0].numpy()


def test_jitter_in_every_order(crop: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for order in itertools.permutations(range(4)):
        factors = rng.uniform([0.2, 0.2, 0.2, -0.5], [1.8, 1.8, 1.8, 0.5])
        host, device = both(ColorJitter, crop, np.hstack([order, factors]))
        np.testing.assert_allclose(host, device, rtol=0, atol=1e-5, err_msg=f"{order} {factors}")
        assert np.abs(device - crop / 255).max() > 0.05


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 1e-4, 0.1, 0.5])
def test_hue_either_way_round(crop: np.ndarray, turn: float) -> None:
    host, device = both(ColorJitter, crop, np.array([3, 0, 1, 2, 1, 1, 1, turn]))
    np.testing.assert_allclose(host, device, rtol=0, atol=2e-6)


@pytest.mark.parametrize("side", [32, 9, 5, 2, 1])
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 2.0])
def test_blur_of_any_side(crop: np.ndarray, side: int, sigma: float) -> None:
    part = np.ascontiguousarray(crop[:, :side, :side])
    host, device = both(GaussianBlur, part, np.array([sigma, 6]))
    np.testing.assert_allclose(host, device, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("op", "params"),
    [
        (HorizontalFlip, [1]),
        (HorizontalFlip, [0]),
        (Grayscale, [1]),
        (Grayscale, [0]),
        (Solarize, [128 / 255]),
        (Solarize, [2]),
    ],
)
def test_switched_operations(crop: np.ndarray, op: type[ViewOp], params: list[float]) -> None:
    host, device = both(op, crop, np.array(params))
    np.testing.assert_allclose(host, device, rtol=0, atol=3e-7)
    acts = params[0] in (1, 128 / 255)
    assert (np.abs(device - crop / 255).max() > 0.1) == acts


@pytest.mark.parametrize("name", ["msn_vits16", "byol_rn50", "dino_vits16"])
def test_whole_views_of_the_configs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(f"configs/{name}.py")
    views = cfg.train_dataloader.dataset.transform.views
    for view in views.values():
        view.size //= 4
    cut = MultiCrop(views)
    photos = load_sample_images().images
    samples = [
        {
            "inputs": cut({"img": photos[i % 2], "key": SampleKey(i)}),
            "data_samples": {"index": i, "unreadable": []},
        }
        for i in range(12)
    ]
    batch = multi_view_collate(samples)
    prepare = MultiViewPreprocessor([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    on_host = prepare(batch)["inputs"]
    # The device's way, on the CPU.
    monkeypatch.setattr("msn_mm.models.preprocessors.multi_view.host_function", lambda op: None)
    on_device = prepare(batch)["inputs"]
    for group, done in on_host.items():
        assert done["images"].is_contiguous()
        # Solarising turns a value that lies on the threshold one way or the other.
        apart = (done["images"] - on_device[group]["images"]).abs().flatten()
        assert float(apart.kthvalue(round(0.9999 * len(apart))).values) < 5e-5
        assert apart.max() < (5e-5 if name == "msn_vits16" else 0.05)


def test_an_operation_that_is_overridden_has_no_host_function_of_its_parent() -> None:
    class Doubled(GaussianBlur):
        @staticmethod
        def apply(images: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
            return GaussianBlur.apply(GaussianBlur.apply(images, params), params)

    class Renamed(GaussianBlur):
        pass

    assert host_function(GaussianBlur) is host_function(Renamed) is GaussianBlur.on_host
    assert host_function(Doubled) is None and host_function(Rotation) is None


def test_the_callers_pixels_stay(crop: np.ndarray) -> None:
    before: Any = crop.copy()
    both(HorizontalFlip, crop, np.array([1]))
    both(ColorJitter, crop, np.array([0, 1, 2, 3, 1.5, 1.5, 1.5, 0.1]))
    assert np.array_equal(crop, before)
