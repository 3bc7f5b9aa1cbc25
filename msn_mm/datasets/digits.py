"""Scikit-learn's handwritten digits: real images that come with a dependency."""

from __future__ import annotations

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
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the samples of the split, in the order of the source."""
        # Imported here: scikit-learn takes a second that no other data set needs.
        from sklearn.datasets import load_digits

        source = load_digits()
        total = len(source.images)
        if self.holdout >= total:
            raise ValueError(f"Digits: holdout must be below {total}, got {self.holdout}")
        first_held_out = total - self.holdout
        chosen = {
            "pretrain": range(first_held_out),
            "test": range(first_held_out, total),
            "all": range(total),
        }[self.split]
        return [
            {"img": self._enlarge(source.images[i]), "gt_label": int(source.target[i])}
            for i in chosen
        ]

    def _enlarge(self, scan: np.ndarray) -> np.ndarray:
        image = Image.fromarray((scan * (255 / _WHITE)).astype(np.float32))
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(image).clip(0, 255).round().astype(np.uint8)[..., None]
