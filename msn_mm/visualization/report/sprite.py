"""Pictures for the page: small ones in one sheet, larger ones by themselves.

Shapes: n images, C channels, H x W pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

from markupsafe import Markup
from PIL import Image
from torch import Tensor

from msn_mm.visualization.html_page import data_uri
from msn_mm.visualization.pixels import as_rgb

SIDE = 48
_QUALITY = 72
# Smaller images than this are enlarged with their pixels as they are.
_COARSE = 64


def picture(view: Tensor) -> Image.Image:
    """Return uint8 ``(C, H, W)`` as a picture."""
    return Image.fromarray(as_rgb(view.permute(1, 2, 0).numpy()))


def encoded(image: Image.Image, quality: int = _QUALITY) -> str:
    """Return a picture as an address that holds it, as WebP."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality)
    return data_uri(buffer.getvalue(), "image/webp")


class Sprite:
    """Thumbnails of n images in one picture, row by row.

    Args:
        views: uint8 ``(C, H, W)`` each.
        name: Class of its elements in the page.

    Attributes:
        columns: Thumbnails in a row.
        rows: Rows.
        coarse: Whether the images are so small that their pixels should show.
    """

    def __init__(self, views: Iterable[Tensor], name: str = "sprite") -> None:
        self.name = name
        thumbs = []
        self.coarse = False
        for view in views:
            image = picture(view)
            self.coarse = self.coarse or max(image.size) < _COARSE
            kind = Image.Resampling.NEAREST if self.coarse else Image.Resampling.LANCZOS
            thumbs.append(image.resize((SIDE, SIDE), kind))
        self.columns = max(1, math.isqrt(max(0, len(thumbs) - 1)) + 1)
        self.rows = max(1, -(-len(thumbs) // self.columns))
        sheet = Image.new("RGB", (self.columns * SIDE, self.rows * SIDE))
        for place, thumb in enumerate(thumbs):
            sheet.paste(thumb, (place % self.columns * SIDE, place // self.columns * SIDE))
        self.sheet = sheet

    def style(self) -> Markup:
        """Return the style element that gives every thumbnail its picture, once a page."""
        return Markup(
            "<style>.{} {{ background-image: url({}); --columns: {}; --side: {}px; "
            "--sheet: {}px {}px; }}</style>\n"
        ).format(
            self.name,
            Markup(encoded(self.sheet)),
            self.columns,
            SIDE,
            self.columns * SIDE,
            self.rows * SIDE,
        )

    def thumb(self, place: int, alt: str) -> Markup:
        """Return one thumbnail of the sheet, as large as its grid makes it."""
        across = 100 * (place % self.columns) / max(1, self.columns - 1)
        down = 100 * (place // self.columns) / max(1, self.rows - 1)
        return Markup(
            '<span class="thumb {}" role="img" aria-label="{a}" title="{a}" '
            'style="background-position: {:.4g}% {:.4g}%"></span>'
        ).format(self.name, across, down, a=alt)
