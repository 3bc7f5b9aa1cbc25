"""Do samples show what their image shows? Classes, variety and likeness to training images.

Legend: N images, I images, M samples an image, C channels, S side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.svm import SVC
from torch import Tensor

from msn_mm.diffusion.conditional_norm import ConditionalGroupNorm
from msn_mm.diffusion.rcdm import RCDM, resized


class PixelClassifier:
    """A support vector machine on pixels, which has seen real images alone.

    It is for small pictures of one thing in its place, such as digits.

    Args:
        images: uint8 ``(N, C, S, S)``.
        labels: ``(N,)``.
    """

    def __init__(self, images: Tensor, labels: NDArray[np.int64]) -> None:
        self._machine = SVC(C=10.0).fit(_rows(images), labels)

    def predict(self, images: Tensor) -> NDArray[np.int64]:
        """Classify uint8 ``(N, C, S, S)``."""
        found: NDArray[np.int64] = self._machine.predict(_rows(images))
        return found


def at_sample_size(model: RCDM, pixels: Tensor) -> Tensor:
    """Bring images in [-1, 1] to the samples' size: uint8 ``(N, C, S, S)``."""
    small = resized(pixels, model.image_size)
    return ((small.clamp(-1.0, 1.0) + 1.0) * 127.5).round().byte()


def recognised(classifier: PixelClassifier, samples: Tensor, labels: NDArray[np.int64]) -> float:
    """Return the percentage of samples ``(I, M, C, S, S)`` that show their image's class."""
    found = classifier.predict(samples.flatten(0, 1))
    return 100.0 * float(np.mean(found == labels.repeat(samples.shape[1])))


def variety(samples: Tensor) -> float:
    """Return the mean distance between two samples of one image, ``(I, M, C, S, S)``.

    The distance is the root mean square difference of pixels between 0 and 1.

    Raises:
        ValueError: One sample an image.
    """
    count = samples.shape[1]
    if count < 2:
        raise ValueError("the distance between samples needs two of an image")
    rows = samples.flatten(2).double() / 255
    distances = torch.cdist(rows, rows) / rows.shape[2] ** 0.5
    return float(distances.sum((1, 2)).mean() / (count * (count - 1)))


def variety_between_images(samples: Tensor) -> float:
    """Return what :func:`variety` is of samples of different images, with equal noise."""
    return variety(samples.transpose(0, 1))


def nearest_distances(images: Tensor, real: Tensor) -> NDArray[np.float64]:
    """Return each image's distance to the nearest of some real ones, as in :func:`variety`."""
    rows = _rows(images)
    _, found = pairwise_distances_argmin_min(rows, _rows(real))
    return np.asarray(found / rows.shape[1] ** 0.5, dtype=np.float64)


@contextmanager
def untrained_conditioning(model: RCDM) -> Iterator[None]:
    """Put the sampling network's conditioning as it was before training, for a while."""
    norms = [m for m in model.ema_unet.modules() if isinstance(m, ConditionalGroupNorm)]
    kept = [norm.affine.weight.detach().clone() for norm in norms]
    try:
        with torch.no_grad():
            for norm in norms:
                norm.affine.weight.zero_()
        yield
    finally:
        with torch.no_grad():
            for norm, weight in zip(norms, kept, strict=True):
                norm.affine.weight.copy_(weight)


def _rows(images: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = images.flatten(1).numpy().astype(np.float64) / 255
    return found
