"""Files of 16 bits and of many channels, as cameras of laboratories and satellites write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

BANDS = 5


def sensor(number: int, bands: int = 1, side: int = 64) -> np.ndarray:
    """Return a part of a photograph as a 12-bit sensor would see it, uint16 (side, side, bands)."""
    rng = np.random.default_rng(number)
    photo = load_sample_images().images[number % 2].astype(np.float64)
    top, left = rng.integers(0, 427 - side), rng.integers(0, 640 - side)
    part = photo[top : top + side, left : left + side]
    weights = np.random.default_rng(9).dirichlet(np.ones(3), bands).T
    values = part @ weights * np.linspace(5, 11, bands) + np.linspace(200, 600, bands)
    return (values + rng.normal(0, 5, values.shape)).clip(0, 4095).astype(np.uint16)


def write_sensor(folder: Path, count: int, bands: int = 1, first: int = 0) -> list[np.ndarray]:
    """Write such images, 16-bit PNG and TIFF in turn where they are grey; return their values."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [sensor(number, bands) for number in range(first, first + count)]
    for number, image in enumerate(images):
        if bands == 1:
            cv2.imwrite(str(folder / f"{number:02d}.{('png', 'tif')[number % 2]}"), image)
        else:
            write_tiff(folder / f"{number:02d}.tif", image)
    return images


def write_tiff(path: Path, image: np.ndarray, **options: Any) -> None:
    """Write (H, W, C) with the channels of a pixel side by side."""
    import tifffile

    usual = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, image, **{**usual, **options})
