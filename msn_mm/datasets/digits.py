"""Scikit-learn's handwritten digits: real images that come with a dependency."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image

from msn_mm.registry import DATASETS

_WHITE = 16.0


@DATASETS.register_module()
class Digits(BaseDataset):
    """1,797 scans of handwritten digits, 8 x 8 with 17 grey levels, enlarged once.

    The last ``holdout`` scans in the source's order are held out, so anyone can
    make the same split by slicing. It is also the harder split, as if other
    hands had written them: at five labels a class raw pixels score 83 % there
    and 86 to 88 % on a random one. The splits ``pretrain`` and ``test`` are
    disjoint and make up ``all``. Each sample has ``img``, uint8 (size, size, 1),
    and ``gt_label``.

    Args:
        split: Which images.
        size: Side in pixels after bicubic enlargement.
        holdout: How many images the test split holds.
        **kwargs: As :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ValueError: If the split is unknown or a number impossible.

    Source: Alpaydin & Kaynak 1998, UCI "Optical Recognition of Handwritten
    Digits", through :func:`sklearn.datasets.load_digits`.
    """

    METAINFO = {"classes": tuple(str(digit) for digit in range(10))}

    def __init__(
        self,
        split: Literal["pretrain", "test", "all"] = "pretrain",
        size: int = 32,
        holdout: int = 500,
        **kwargs: Any,
    ) -> None:
        if split not in ("pretrain", "test", "all"):
            raise ValueError(f"Digits: split must be pretrain, test or all, got '{split}'")
        if size < 1 or holdout < 0:
            raise ValueError(f"Digits: size {size} or holdout {holdout} is impossible")
        self.split = split
        self.size = size
        self.holdout = holdout
        # The few scans lie in memory once, whatever the number of splits.
        super().__init__(**{"serialize_data": False, **kwargs})

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the samples of the split, in the order of the source."""
        scans, labels = _scans()
        total = len(scans)
        if self.holdout >= total:
            raise ValueError(f"Digits: holdout must be below {total}, got {self.holdout}")
        first_held_out = total - self.holdout
        chosen = {
            "pretrain": range(first_held_out),
            "test": range(first_held_out, total),
            "all": range(total),
        }[self.split]
        images = _enlarged(self.size)
        return [{"img": images[i], "gt_label": int(labels[i])} for i in chosen]


@lru_cache(maxsize=1)
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Return all scans, (n, 8, 8) float64, and their labels, (n,) int64."""
    # Read as scikit-learn reads it: to import scikit-learn takes longer than the rest of
    # a start. Where it keeps the file is its own affair, so it is asked otherwise.
    package = find_spec("sklearn")
    for place in (package and package.submodule_search_locations) or ():
        file = Path(place, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            with gzip.open(file, "rt", encoding="ascii") as lines:
                table = np.loadtxt(lines, delimiter=",")
            return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    source = load_digits()
    return source.images, source.target


@lru_cache(maxsize=4)
def _enlarged(size: int) -> tuple[np.ndarray, ...]:
    return tuple(_enlarge(scan, size) for scan in _scans()[0])


def _enlarge(scan: np.ndarray, size: int) -> np.ndarray:
    image = Image.fromarray((scan * (255 / _WHITE)).astype(np.float32))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).clip(0, 255).round().astype(np.uint8)[..., None]
