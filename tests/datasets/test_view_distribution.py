"""Augmented photographs against torchvision's on Pillow images, as the released recipe has them.

Paired: torchvision's own functions with the numbers that our views drew; what is left
is Pillow's rounding to 8 bits after each step. Unpaired: torchvision draws for itself.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from msn_mm.datasets import MultiCrop, SampleKey, multi_view_collate
from msn_mm.datasets.decode import read_image
from msn_mm.datasets.multi_crop import sample_crop
from msn_mm.engine.launch import load_config
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared"))
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
ADJUST = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
BINS = 16


def views(size: int, scale: tuple[float, float]) -> dict[str, dict[str, object]]:
    recipe = load_config(str(ROOT / "configs/msn_vits16.py"))
    ops = recipe.train_dataloader.dataset.transform.views.focal.ops
    return {"focal": {"size": size, "scale": scale, "ops": ops}}


def ours(
    photos: list[np.ndarray], views: dict[str, dict[str, object]], n: int
) -> dict[str, Tensor]:
    """``images`` float32 (n, 3, S, S) in [0, 1], and the numbers that they drew."""
    cut = MultiCrop(views)
    samples = [
        {
            "inputs": cut({"img": photos[i % len(photos)], "key": SampleKey(i)}),
            "data_samples": {"index": i, "unreadable": []},
        }
        for i in range(n)
    ]
    batch = multi_view_collate(samples)
    done = MultiViewPreprocessor([0.0] * 3, [255.0] * 3)(batch)["inputs"]["focal"]["images"]
    return {"images": done, **batch["inputs"]["focal"]["params"]}


def paired(
    photo: np.ndarray, scale: tuple[float, float], size: int, i: int, drawn: dict[str, Tensor]
) -> np.ndarray:
    """The view of key ``i`` by torchvision and Pillow, uint8 (S, S, 3)."""
    box = sample_crop(SampleKey(i).generator(0), *photo.shape[:2], scale, LOG_RATIO)
    image = F.resized_crop(
        Image.fromarray(photo), *box, [size, size], InterpolationMode.BILINEAR, antialias=True
    )
    if drawn["HorizontalFlip"][i] > 0:
        image = F.hflip(image)
    order, factors = drawn["ColorJitter"][i].split(4)
    if factors.tolist() != [1, 1, 1, 0]:
        for step in order.int().tolist():
            image = ADJUST[step](image, float(factors[step]))
    if drawn["Grayscale"][i] > 0:
        image = F.to_grayscale(image, num_output_channels=3)
    if (sigma := float(drawn["GaussianBlur"][i, 0])) > 0:
        image = image.filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(image)


def statistics(images: Tensor) -> dict[str, np.ndarray]:
    """Of float32 (n, 3, S, S): means and deviations of channels; shares of histograms."""
    channels = images.transpose(0, 1).flatten(1)
    hsv = np.stack([cv2.cvtColor(x, cv2.COLOR_RGB2HSV) for x in images.permute(0, 2, 3, 1).numpy()])
    hue, saturation, value = (hsv[..., c].ravel() for c in range(3))
    coloured = saturation * value > 0.05  # the hue of grey is noise
    return {
        "mean": channels.mean(1).numpy(),
        "std": channels.std(1).numpy(),
        "saturation": np.histogram(saturation, BINS, (0, 1))[0] / saturation.size,
        "hue": np.histogram(hue[coloured], BINS, (0, 360))[0] / coloured.sum(),
        "coloured": np.array([coloured.mean()]),
    }


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [np.array(photo) for photo in load_sample_images().images]


@pytest.mark.parametrize(("size", "scale"), [(96, (0.05, 0.3)), (112, (0.3, 1.0))])
def test_same_numbers_same_pixels(
    photos: list[np.ndarray], size: int, scale: tuple[float, float]
) -> None:
    n = 120
    got = ours(photos, views(size, scale), n)
    want = np.stack([paired(photos[i % 2], scale, size, i, got) for i in range(n)])
    theirs = torch.from_numpy(want).permute(0, 3, 1, 2).contiguous() / 255
    apart = (got["images"] - theirs).abs().mean((1, 2, 3)) * 255
    # Grey levels. Pillow rounds, contrast and saturation downwards, after each step.
    assert apart.mean() < 1.5 and apart.max() < 4
    assert_alike(got["images"], theirs, mean=0.015, std=0.005, histogram=0.04)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scale"), [(96, (0.05, 0.3)), (112, (0.3, 1.0))])
def test_torchvision_draws_the_same_distribution(
    photos: list[np.ndarray], size: int, scale: tuple[float, float]
) -> None:
    files = sorted((SHARED / "data/imagenet_sample").glob("*/*.JPEG"))
    photos = [read_image(file) for file in files] or photos
    n = 2048
    got = ours(photos, views(size, scale), n)["images"]
    torch.manual_seed(0)
    random.seed(0)
    released = T.Compose(
        [
            T.RandomResizedCrop(size, scale=scale),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
            lambda image: _blurred(image) if random.random() < 0.5 else image,
            T.ToTensor(),
        ]
    )
    theirs = torch.stack([released(Image.fromarray(photos[i % len(photos)])) for i in range(n)])
    # Standard errors of 2,048 views are about one percent.
    assert_alike(got, theirs, mean=0.04, std=0.03, histogram=0.05)
    grey = [(x.amax(1) - x.amin(1)).flatten(1).amax(1) < 0.01 for x in (got, theirs)]
    assert abs(float(grey[0].float().mean() - grey[1].float().mean())) < 0.04
    edges = [(x[..., 1:] - x[..., :-1]).abs().mean() for x in (got, theirs)]
    assert float(edges[0] / edges[1]) == pytest.approx(1, abs=0.05)


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def assert_alike(left: Tensor, right: Tensor, *, mean: float, std: float, histogram: float) -> None:
    """Compare two sets of views, the last as the share that would have to change its bin."""
    ours, theirs = statistics(left), statistics(right)
    np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=mean)
    np.testing.assert_allclose(ours["std"], theirs["std"], rtol=std)
    np.testing.assert_allclose(ours["coloured"], theirs["coloured"], rtol=histogram)
    for name in ("saturation", "hue"):
        moved = np.abs(ours[name] - theirs[name]).sum() / 2
        assert moved < histogram, f"{name}: {moved:.3f} of the histogram lies elsewhere"
