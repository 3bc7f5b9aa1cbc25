"""Which views of the images are cut, by the images' size and colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# Images of smaller sides are enlarged to the second number, of larger ones cut to the last.
_TINY, _ENLARGED, _PHOTOGRAPH, _LARGEST = 24, 32, 192, 224
# Photographs are seen at this side where there is no time for more.
SHRUNK_SIDE = 128
_COARSE, _FINE, _FINEST = 16, 8, 4
# A ViT-S/16 sees a 96-pixel focal view beside a 224-pixel target (arXiv 2204.07141, C.1).
_FOCAL_SHARE = 96 / 224


@dataclass(frozen=True)
class ViewSizes:
    """Sides of the views and of a patch, in pixels."""

    side: int
    focal: int
    patch: int

    @property
    def patches(self) -> int:
        """Patches of a whole view."""
        return (self.side // self.patch) ** 2


def view_sizes(short_side: int, coarse: bool = False) -> ViewSizes:
    """Return the sides for images of a shorter side.

    Args:
        short_side: The median over the images.
        coarse: Patches of 8 pixels on small images, a quarter of the tokens.
    """
    if short_side >= _PHOTOGRAPH:
        return sizes_at(_LARGEST, _COARSE)
    if short_side < _TINY:
        return sizes_at(_ENLARGED, _FINE if coarse else _FINEST)
    if short_side >= 112:
        return sizes_at(short_side, _COARSE)
    if short_side >= 48 or (coarse and short_side >= 32):
        return sizes_at(short_side, _FINE)
    return sizes_at(short_side, _FINEST)


def sizes_at(side: int, patch: int) -> ViewSizes:
    """Return the largest views of whole patches within a side, two patches at the least."""
    whole = max(2, side // patch) * patch
    focal = max(2, math.ceil(whole * _FOCAL_SHARE / patch)) * patch
    return ViewSizes(whole, min(focal, whole), patch)


def view_groups(
    sizes: ViewSizes, focal_views: int, is_grey: bool, mirror: bool, channels: int = 3
) -> dict[str, dict[str, Any]]:
    """Return the groups of views of a config: target, anchor and focal views.

    Photographs get the paper's augmentations, blur where there is enough to blur. Grey
    images, often signs or scans, get small rotations, shears and bends in the place of
    colours. Other numbers of channels have no hue, saturation or grey.
    """
    ops: list[dict[str, Any]] = [dict(type="HorizontalFlip", p=0.5)] if mirror else []
    if is_grey:
        ops += [
            dict(type="Rotation", degrees=15.0),
            dict(type="Shear", degrees=15.0),
            dict(type="ElasticWarp", magnitude=0.1),
        ]
    else:
        jitter = dict(brightness=0.4, contrast=0.4)
        if channels == 3:
            jitter |= dict(saturation=0.4, hue=0.1)
        ops.append(dict(type="ColorJitter", p=0.8, **jitter))
        if channels == 3:
            ops.append(dict(type="Grayscale", p=0.2))
        if sizes.side >= 96:
            ops.append(dict(type="GaussianBlur", p=0.5, radius=(0.1, 2.0)))
    is_small = sizes.side < 96
    # Of a small image a twentieth shows nothing.
    large = (0.6, 1.0) if is_small and is_grey else (0.3, 1.0)
    small = ((0.2, 0.6) if is_grey else (0.1, 0.4)) if is_small else (0.05, 0.3)
    whole = dict(size=sizes.side, scale=large, ops=ops)
    return dict(
        target=whole,
        anchor=whole,
        focal=dict(size=sizes.focal, scale=small, num=focal_views, ops=ops),
    )
