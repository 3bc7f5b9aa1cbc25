"""A smooth random distortion: the way in which one hand's digits differ from another's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from msn_mm.datasets.view_ops.base import ViewOp, change_rows, check_probability
from msn_mm.registry import VIEW_OPS

_NODES = 3


@lru_cache(maxsize=16)
def _bicubic(height: int, width: int) -> Tensor:
    """What each node adds to each pixel, float32 (9, height * width); nodes lie on the border."""
    basis = torch.eye(_NODES**2).view(-1, 1, _NODES, _NODES)
    field = F.interpolate(basis, size=(height, width), mode="bicubic", align_corners=True)
    return field.flatten(1)


@VIEW_OPS.register_module()
class ElasticWarp(ViewOp):
    """Move the nodes of a 3 x 3 grid at random and bend the image with them.

    Each node moves by a normal displacement in x and y; between the nodes the
    displacement is bicubic. Bilinear resampling, borders repeated. Numbers of
    one view: the 18 displacements, all 0 where it does not act. Elastic
    distortion of handwriting: Simard et al. 2003, "Best practices for
    convolutional neural networks"; the coarse grid makes it a few numbers.

    Args:
        magnitude: Standard deviation of a displacement, in half sides of the view.
        p: Probability.

    Raises:
        ValueError: If the magnitude is negative or p no probability.
    """

    width = 2 * _NODES * _NODES

    def __init__(self, magnitude: float, p: float = 1.0) -> None:
        if magnitude < 0:
            raise ValueError(f"ElasticWarp: magnitude must not be negative, got {magnitude}")
        self.magnitude = float(magnitude)
        self.p = check_probability(p, "ElasticWarp")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the displacements of the nodes."""
        acts = rng.random() < self.p
        moves = rng.standard_normal(self.width, dtype=np.float32) * np.float32(self.magnitude)
        return moves if acts else np.zeros_like(moves)

    @staticmethod
    def apply(images: Tensor, params: Tensor) -> Tensor:
        """Bend the rows that drew a displacement; see :meth:`ViewOp.apply`."""
        return change_rows(images, params, params.any(dim=1), _bend)

    def reference(self) -> Callable[[Image.Image], Image.Image]:
        """Return the same distortion on a PIL image; torchvision has none on a coarse grid."""

        def bend(image: Image.Image) -> Image.Image:
            seed = int(torch.randint(2**31, ()))
            params = torch.from_numpy(self.draw(np.random.default_rng(seed)))[None]
            pixels = v2.functional.pil_to_tensor(image)[None] / 255
            return v2.functional.to_pil_image(self.apply(pixels, params)[0])

        return bend


def _bend(images: Tensor, params: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    field = params.view(-1, _NODES**2) @ _bicubic(height, width)
    field = field.view(-1, 2, height, width).to(images.device, non_blocking=True)
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)
    grid = grid + field.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
