"""mmpretrain's RandAugment on images as the rest of this project has them: RGB, or grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msn_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandAugmentRGB:
    """RandAugment of Cubuk et al. 2020 (arXiv 1909.13719), by mmpretrain's operations.

    Those read images as OpenCV does, BGR, and three of them weigh the colours
    apart; on one channel most of them fail or lose the channel's axis. Channels are
    turned around here, and a grey image goes through thrice.

    The defaults are RandAugment(9, 0.5) with the operations of timm's
    ``rand-m9-mstd0.5-inc1``: two operations an image, each at its turn with
    probability 0.5, at a magnitude drawn from N(9, 0.5) on a scale of 10.

    Args:
        policies: Name of mmpretrain's set of operations, or a list of their configs.
        num_policies: Operations an image.
        magnitude_level: Mean magnitude.
        magnitude_std: Its standard deviation.
        pad_val: What fills the corners that an operation uncovers, RGB.

    Source: Appendix C.4 of arXiv 2204.07141.
    """

    def __init__(
        self,
        policies: str | Sequence[Mapping[str, Any]] = "timm_increasing",
        num_policies: int = 2,
        magnitude_level: float = 9,
        magnitude_std: float = 0.5,
        pad_val: Sequence[int] = (124, 116, 104),
    ) -> None:
        self.augment = TRANSFORMS.build(
            dict(
                type="RandAugment",
                policies=policies if isinstance(policies, str) else [dict(p) for p in policies],
                num_policies=num_policies,
                magnitude_level=magnitude_level,
                magnitude_std=magnitude_std,
                hparams=dict(pad_val=list(pad_val)[::-1], interpolation="bicubic"),
            )
        )

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Augment ``img``, uint8 (S, S, C) with C of 1 or 3.

        Raises:
            ValueError: If the image has another number of channels.
        """
        image = results["img"]
        channels = image.shape[2]
        if channels not in (1, 3):
            raise ValueError(f"RandAugmentRGB: images have 1 or 3 channels, not {channels}")
        turned = np.repeat(image, 3, axis=2) if channels == 1 else image[..., ::-1]
        done = self.augment({"img": np.ascontiguousarray(turned)})["img"]
        shown = done[..., :1] if channels == 1 else done[..., ::-1]
        return {**results, "img": np.ascontiguousarray(shown)}
