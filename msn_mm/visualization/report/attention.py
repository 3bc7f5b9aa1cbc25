"""Section: what the CLS token of the last block looks at, in whole and masked images.

Shapes: n images, H heads, N = R x K patches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from msn_mm.evaluation.attention import attention_maps
from msn_mm.evaluation.extraction import Mask
from msn_mm.visualization.attention_picture import attention_picture
from msn_mm.visualization.page_parts import (
    Download,
    Markup,
    Section,
    details,
    joined,
    json_of,
    paragraph,
)
from msn_mm.visualization.report.run import Run
from msn_mm.visualization.report.sprite import encoded, picture

RATIOS = (0.0, 0.3, 0.5, 0.7)
_IMAGES = 4
# Sides in pixels of a map on the page: the heads' mean, and each head.
_SIDE, _HEAD_SIDE = 176, 88


def section(run: Run) -> Section:
    """Draw attention maps of a few images at several mask ratios.

    Raises:
        UserError: The encoder has no attention that could be drawn.
    """
    # Far from each other, so in data sorted by class of different classes.
    places = (
        np.linspace(0, len(run.indices) - 1, min(_IMAGES, len(run.indices))).round().astype(int)
    )
    indices = [int(run.indices[i]) for i in places]
    views = torch.stack([run.images[i] for i in indices])
    keys = {r: Mask(r, run.options.seed).keys(indices) for r in RATIOS}
    maps = {r: attention_maps(run.encoder, views, r, keys[r]) for r in RATIOS}
    heads = next(iter(maps.values())).shape[1]
    cells = [Markup('<div class="head">image</div>')]
    for ratio in RATIOS:
        words = "whole" if not ratio else f"{ratio:.0%} hidden"
        cells.append(Markup('<div class="head">{}</div>').format(words))
    rows, each = [joined(cells)], []
    for row, place in enumerate(places):
        name = run.names[place]
        side = (_SIDE, _SIDE)
        original = encoded(picture(views[row]).resize(side, _resampling(views)))
        shown = [_img(original, f"image {name}")]
        for ratio in RATIOS:
            mean = maps[ratio][row].mean(0)
            drawn = attention_picture(views[row], mean, _SIDE, _patch_size(run))
            words = "the whole image" if not ratio else f"{ratio:.0%} of the patches hidden"
            shown.append(
                _img(encoded(Image.fromarray(drawn)), f"attention of CLS on {name}, {words}")
            )
        rows.append(joined(shown))
        each.append(_heads(run, views[row], name, {r: maps[r][row] for r in RATIOS}))
    body = joined(
        [
            paragraph(
                "Attention of the last block's CLS token to each patch, the mean of "
                f"{heads} heads; bright is more, and each picture has a scale of its own. Hidden "
                "patches, which the encoder does not see, are hatched grey. Recomputed from "
                "queries and keys for these pictures; training keeps fused attention."
            ),
            Markup('<div class="maps">{}</div>\n').format(joined(rows)),
            details(f"Each of the {heads} heads", joined(each)),
        ]
    )
    data = {
        "image": [run.names[i] for i in places],
        "grid": list(maps[0.0].shape[2:]),
        # by ratio (n, H, N); null: hidden
        "attention": {f"{ratio:g}": np.round(found, 6) for ratio, found in maps.items()},
    }
    return Section(
        "attention",
        "Attention maps",
        body,
        [Download("attention.json", json_of(data), "application/json")],
    )


def _heads(
    run: Run, view: torch.Tensor, name: str, maps: dict[float, NDArray[np.float32]]
) -> Markup:
    """One picture an image: a row a mask ratio, a column a head."""
    size = _patch_size(run)
    rows = [
        np.concatenate([attention_picture(view, head, _HEAD_SIDE, size) for head in heads], axis=1)
        for heads in maps.values()
    ]
    sheet = Image.fromarray(np.concatenate(rows))
    ratios = ", ".join("whole" if not r else f"{r:.0%} hidden" for r in maps)
    alt = f"attention of each head on {name}; rows: {ratios}"
    return Markup(
        '<figure class="sheet"><figcaption>{}; rows from the top: {}; a column a head'
        '</figcaption><img src="{}" alt="{}" width="{}" height="{}" style="width: {w}px">'
        "</figure>\n"
    ).format(name, ratios, Markup(encoded(sheet)), alt, sheet.width, sheet.height, w=sheet.width)


def _patch_size(run: Run) -> tuple[int, int]:
    trunk: Any = run.encoder.trunk  # a MaskedViT, or there were no maps
    height, width = trunk.patch_size
    return height, width


def _img(source: str, alt: str) -> Markup:
    return Markup('<img src="{}" alt="{}" width="{s}" height="{s}">').format(
        Markup(source), alt, s=_SIDE
    )


def _resampling(views: torch.Tensor) -> Image.Resampling:
    small = views.shape[-1] < _SIDE // 2
    return Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
