"""The images themselves as features: the baseline that an encoder has to beat."""

from __future__ import annotations

from torch import Tensor, nn

from msn_mm.registry import MODELS


@MODELS.register_module()
class RawPixels(nn.Module):
    """A backbone that flattens its images and learns nothing.

    Args:
        in_channels: C, the channels of the images.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C * H * W)``."""
        return images.flatten(1)
