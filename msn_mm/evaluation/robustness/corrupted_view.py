"""A view whose pixels are then corrupted, as ImageNet-C was made.

ImageNet-C was corrupted after the same resize and cut, and saved as lightly
compressed JPEG files; here nothing is compressed, so that numbers on the same images
differ a little from those on its files.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image

from msn_mm.datasets import EvalCrop
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.datasets.keys import SampleKey
from msn_mm.errors import UserError
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES

LIBRARY = "imagecorruptions-imaug"
_INSTALL = f"pip install {LIBRARY}"
# The library's lower bound.
LEAST_SIDE = 32
# These two draw from a generator of their own, not from numpy's.
_TAKE_SEED = ("impulse_noise", "glass_blur")

_DRAWN_BY_CHANNEL = ("gaussian_noise", "shot_noise", "impulse_noise")


class CorruptedView:
    """A view of an image, corrupted.

    Args:
        view: What is corrupted.
        corruption: One of :data:`~.corruption_error.CORRUPTIONS`.
        severity: 1 to 5.
        seed: With an image's index, the corruption and its severity, what the
            random parts are a function of.

    Raises:
        UserError: The library that corrupts is not installed, or the images are neither
            RGB nor grey.
        ValueError: There is no such corruption or severity.
    """

    def __init__(self, view: EvalCrop, corruption: str, severity: int, seed: int = 0) -> None:
        if corruption not in CORRUPTIONS or severity not in SEVERITIES:
            raise ValueError(f"there is no corruption {corruption} of severity {severity}")
        if view.channels not in (1, 3):
            raise UserError(
                f"corruptions know images of 1 or 3 channels, and the model takes {view.channels}"
            )
        self.view = view
        self.corruption, self.severity, self.seed = corruption, severity, seed
        self.library = {LIBRARY: library_version(), **_versions()}

    def settings(self) -> dict[str, Any]:
        """Return what the pixels depend on beside the image."""
        own = {"noise": "of one channel"} if self._is_grey_noise else {}
        return {
            **own,
            **self.view.settings(),
            "corruption": self.corruption,
            "severity": self.severity,
            "seed": self.seed,
            "library": self.library,
        }

    @property
    def _is_grey_noise(self) -> bool:
        return self.corruption in _DRAWN_BY_CHANNEL and self.view.channels == 1

    def __call__(self, results: Mapping[str, Any]) -> torch.Tensor:
        """Return the view of one image, uint8 (C, H, W).

        Args:
            results: What :class:`~msn_mm.datasets.EvalCrop` takes, and the image's
                index as ``sample_idx``, which MMEngine's data sets give.

        Raises:
            UserError: The view is too small to be corrupted.
        """
        pixels = self.view(dict(results)).numpy().transpose(1, 2, 0)
        if min(pixels.shape[:2]) < LEAST_SIDE:
            raise UserError(
                f"corruptions want images of {LEAST_SIDE} pixels a side, not "
                f"{pixels.shape[1]} x {pixels.shape[0]}; set resize of the config's EvalCrop"
            )
        number = len(SEVERITIES) * CORRUPTIONS.index(self.corruption) + self.severity
        word = SampleKey(int(results["sample_idx"]), self.seed, 0).view_key(number)
        corrupted = corrupt(pixels, self.corruption, self.severity, word)
        if pixels.shape[2] == 1:
            # The library makes three channels of one. Noise is drawn for each: one of
            # them has the published strength, their mean a lesser one.
            if self._is_grey_noise:
                corrupted = corrupted[..., :1]
            else:
                corrupted = np.asarray(Image.fromarray(corrupted).convert("L"))[..., None]
        return torch.from_numpy(corrupted.transpose(2, 0, 1).copy())


def corrupt(pixels: np.ndarray, corruption: str, severity: int, word: int) -> np.ndarray:
    """Corrupt an image; a pure function of its arguments.

    Args:
        pixels: uint8 (H, W, 1 or 3).
        corruption: One of the 15.
        severity: 1 to 5.
        word: What random parts are drawn from, 32 bits.

    Returns:
        uint8 (H, W, 3).
    """
    from imagecorruptions import corrupt as library

    options = {"seed": word} if corruption in _TAKE_SEED else {}
    before = np.random.get_state()  # noqa: NPY002 (the library knows no other generator)
    np.random.seed(word)  # noqa: NPY002
    try:
        # it prints where a zoomed image falls short by a pixel
        with contextlib.redirect_stdout(io.StringIO()):
            return library(
                np.ascontiguousarray(pixels),
                severity=severity,
                corruption_name=corruption,
                **options,
            )
    finally:
        np.random.set_state(before)  # noqa: NPY002


def corrupted(images: EvaluationImages, corruption: str, severity: int, seed: int = 0) -> Any:
    """Return the same images through the same view, corrupted.

    Raises:
        UserError: The library is not installed, or the view is no ``EvalCrop``.
    """
    if not isinstance(images.transform, EvalCrop):
        raise UserError(
            f"corruptions follow an EvalCrop, not {type(images.transform).__name__}; set the "
            "transform of the config's labelled images"
        )
    return images.through(CorruptedView(images.transform, corruption, severity, seed))


@cache
def library_version() -> str:
    """Return the version of the library that corrupts.

    Raises:
        UserError: It is not installed, or its unmaintained namesake is.
    """
    try:
        version = metadata.version(LIBRARY)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"corruptions made on the fly need {LIBRARY} (the package imagecorruptions of the "
            f"same modules does not run with today's scikit-image): {_INSTALL}"
        ) from None
    with contextlib.suppress(metadata.PackageNotFoundError):
        metadata.version("imagecorruptions")
        raise UserError(
            f"imagecorruptions is installed over {LIBRARY} and does not run with today's "
            f"scikit-image: pip uninstall imagecorruptions {LIBRARY}, then {_INSTALL}"
        )
    return version


@cache
def _versions() -> dict[str, str]:
    """Versions of what the library computes with."""
    import cv2
    import scipy
    import skimage

    modules = {"opencv": cv2, "scikit-image": skimage, "scipy": scipy, "numpy": np}
    return {name: module.__version__ for name, module in modules.items()}
