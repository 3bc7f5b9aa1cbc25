"""Grids and separate files of what RCDMs draw, as in figures 4 to 8 of the MSN paper."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from msn_mm.datasets import EvaluationImages
from msn_mm.diffusion.drawing import Drawing
from msn_mm.diffusion.loading import read_pixels
from msn_mm.diffusion.rcdm import RCDM, resized
from msn_mm.utils.results import write_atomically
from msn_mm.visualization.pixels import as_rgb
from msn_mm.visualization.sample_grid import GridRow
from msn_mm.visualization.shown_views import ShownView, painted


def tile(image: Tensor) -> np.ndarray:
    """uint8 ``(C, S, S)`` -> ``(S, S, 3)``."""
    return as_rgb(image.permute(1, 2, 0).numpy())


def encoded_tiles(
    model: RCDM, images: EvaluationImages, index: int, hidden: Tensor | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image as its encoder reads it, whole and with its hidden patches painted over."""
    pixels = resized(read_pixels(images, [index]), model.encoder_size)[0]
    shown = ((pixels.clamp(-1.0, 1.0) + 1.0) / 2.0).permute(1, 2, 0).numpy()
    whole = masked = ShownView("encoded", shown, None)
    if hidden is not None:
        trunk: Any = model.backbone
        masked = replace(whole, hidden=hidden.numpy(), patch_size=trunk.patch_size)
    first, second = ((255 * painted(view)).round().astype(np.uint8) for view in (whole, masked))
    return first, second


def sample_rows(
    models: Mapping[str, RCDM],
    images: EvaluationImages,
    indices: Sequence[int],
    drawings: Mapping[str, Sequence[Drawing]],
) -> list[GridRow]:
    """Lay out a row an image, mask ratio and encoder: original, masked image, samples.

    Args:
        models: The RCDMs by name.
        images: The images.
        indices: Which of them were drawn.
        drawings: By name, each alike in ratios.
    """
    rows = []
    for place, index in enumerate(indices):
        first = True
        for number in range(len(next(iter(drawings.values())))):
            for name, model in models.items():
                one = drawings[name][number]
                hidden = None if one.hidden is None else one.hidden[place]
                whole, masked = encoded_tiles(model, images, index, hidden)
                label = f"{one.ratio:.0%} masked" if one.ratio else "whole"
                label = f"{name}, {label}" if len(models) > 1 else label
                samples = [tile(sample) for sample in one.samples[place]]
                rows.append(GridRow(label, [whole, masked, *samples], first))
                first = False
    return rows


def headings(samples: int) -> list[str]:
    """Return what stands above the columns of :func:`sample_rows`."""
    return ["original", "encoded", "samples", *[""] * (samples - 1)]


def save_separately(
    folder: Path, images: EvaluationImages, indices: Sequence[int], rows: Sequence[GridRow]
) -> int:
    """Write every tile of :func:`sample_rows` as a file of its own, at its own size.

    Returns:
        How many were written.
    """
    each = len(rows) // len(indices)
    count = 0
    for number, row in enumerate(rows):
        place = folder / file_name(images.names[indices[number // each]])
        words = file_name(row.label)
        names = ["original", f"{words}_encoded"]
        names += [f"{words}_sample_{k}" for k in range(len(row.tiles) - 2)]
        for name, pixels in zip(names, row.tiles, strict=True):
            if name == "original" and not row.begins_group:
                continue
            save_tile(pixels, place / f"{name}.png")
            count += 1
    return count


def save_tile(pixels: np.ndarray, path: Path) -> None:
    """Write one image as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def file_name(text: str) -> str:
    """Return a text as the name of a file."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_.") or "image"
