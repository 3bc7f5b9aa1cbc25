"""Solarisation: the bright parts of a view turn into their negative."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from msn_mm.datasets.view_ops.base import ViewOp, change_rows, check_probability
from msn_mm.datasets.view_ops.host import HostView
from msn_mm.registry import VIEW_OPS

# Above every value there is: nothing turns.
_OFF = 2.0


@VIEW_OPS.register_module()
class Solarize(ViewOp):
    """Invert every value from a threshold upwards, with probability p, as torchvision does.

    The channels are looked at one by one, so any number of them will do. The
    number of one view: the threshold in [0, 1], or 2 where it does not act.

    Args:
        p: Probability.
        threshold: Lowest of the 256 grey levels that is inverted; 128 in BYOL
            (Grill et al. 2020, arXiv 2006.07733, appendix B) and DINO.

    Raises:
        ValueError: If p is no probability or the threshold no grey level.
    """

    width = 1

    def __init__(self, p: float = 0.2, threshold: int = 128) -> None:
        self.p = check_probability(p, "Solarize")
        if not 0 <= threshold <= 255:
            raise ValueError(f"Solarize: threshold must lie in [0, 255], got {threshold}")
        self.threshold = threshold

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw whether the view is solarised: the threshold it is solarised from."""
        on = rng.random() < self.p
        return np.array([self.threshold / 255 if on else _OFF], dtype=np.float32)

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Solarise the rows that drew it; see :meth:`ViewOp.apply`."""
        return change_rows(images, params, params[:, 0] < _OFF, _solarize)

    @staticmethod
    def on_host(view: HostView, params: np.ndarray) -> None:
        """Solarise one view; see :meth:`ViewOp.on_host`."""
        threshold = params[0]
        if threshold < _OFF:
            view.change(lambda pixels: np.where(pixels >= threshold, 1 - pixels, pixels))

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return torchvision's random solarisation."""
        return v2.RandomSolarize(threshold=self.threshold, p=self.p)


def _solarize(images: Tensor, params: Tensor) -> Tensor:
    threshold = params.to(images.device, non_blocking=True)[..., None, None]
    return (1 - images).where(images >= threshold, images)
