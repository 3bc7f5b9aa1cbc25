"""How many images a folder has, how large they are, and what their pixels hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msn_mm.datasets.decode import (
    TIFF_BEGINS,
    Header,
    UnreadableImageError,
    first_bytes,
    read_header,
)
from msn_mm.datasets.deep_images import read_deep_header
from msn_mm.datasets.image_folder import ImageFolder
from msn_mm.datasets.image_statistics import folder_statistics
from msn_mm.datasets.pixel_window import Window
from msn_mm.errors import UserError
from msn_mm.utils.progress import Progress

HEADERS = 1000
"""Files whose header is read."""
PIXELS = 128
"""Files that are decoded whole."""
LEAST_IMAGES = 32
"""Fewer would be no two batches."""


@dataclass(frozen=True)
class Survey:
    """A folder of images, by a sample that is spread evenly over it.

    Attributes:
        count: Files that are taken for images.
        digest: SHA-256 of their paths below the folder, in order.
        short_side: 10 %, 50 % and 90 % quantile of the shorter side, in pixels.
        formats: How many of the sample have which format.
        is_grey: No image of the sample has colour; then C is 1, whatever the files store.
        mean: Of each of C channels, on the scale 0-255.
        std: Likewise.
        headers: Files of the sample.
        broken: What is wrong with those of them that cannot be read, by path.
        window: The range of values of 16-bit files that becomes 0 to 255; else ``None``.
        notes: What may surprise, one sentence each.
    """

    count: int
    digest: str
    short_side: tuple[int, int, int]
    formats: dict[str, int]
    is_grey: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    headers: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    window: Window | None = None
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def __str__(self) -> str:
        """Return the folder in a few words."""
        low, middle, high = self.short_side
        sides = f"{middle}" if low == high else f"{low} to {high} (median {middle})"
        kinds = ", ".join(sorted(self.formats, key=lambda name: (-self.formats[name], name)))
        colour = "grey" if self.is_grey else "in colour"
        if self.channels not in (1, 3):
            colour = f"{self.channels} channels"
        if self.window is not None:
            colour += " of 16 bits"
        text = f"{self.count:,} images, {colour}, {kinds}; shorter side {sides} pixels"
        if self.broken:
            text += f"; {len(self.broken)} of {self.headers} sampled files cannot be read"
        return text


def survey(folder: str | Path, progress: bool = False) -> Survey:
    """Survey a folder; the same folder gives the same answer.

    Args:
        folder: The images, however deep.
        progress: Whether to tell a terminal how far it is.

    Raises:
        UserError: There are too few images, none of the sample can be read, or they
            differ in channels.
    """
    images = ImageFolder(folder)
    paths = [images.get_data_info(i)["img_path"] for i in range(len(images))]
    if len(paths) < LEAST_IMAGES:
        raise UserError(
            f"{folder} has {len(paths)} image{'s' * (len(paths) != 1)}; pre-training needs at "
            f"least {LEAST_IMAGES}, and some thousands to be of use: use a released encoder "
            "(msn-mm fit --checkpoint ...)"
        )
    headers = {}
    broken: dict[str, str] = {}
    sample = _spread(paths, HEADERS)
    with Progress(len(sample), "looking at the images" if progress else None) as shown:
        for number, path in enumerate(sample):
            try:
                headers[path] = _read_header(path)
            except UnreadableImageError as error:
                broken[path] = error.reason
            shown.to(number + 1)
    if not headers:
        path, reason = next(iter(broken.items()))
        raise UserError(
            f"no image of {folder} can be read, for example {path}: {reason}; give a directory of "
            "images"
        )
    sides = [min(header.width, header.height) for header in headers.values()]
    quantiles = np.quantile(sides, (0.1, 0.5, 0.9), method="nearest").astype(int).tolist()
    pixels = folder_statistics(folder, PIXELS)
    kept = slice(1) if pixels.is_grey else slice(None)
    return Survey(
        count=len(paths),
        digest=listing_digest(paths, images.data_root),
        short_side=(quantiles[0], quantiles[1], quantiles[2]),
        formats=dict(Counter(header.format for header in headers.values())),
        is_grey=pixels.is_grey,
        mean=pixels.mean[kept],
        std=pixels.std[kept],
        headers=len(sample),
        broken={**broken, **pixels.errors},
        window=None if pixels.window is None else pixels.window[kept],
        notes=pixels.notes,
    )


def list_folder(folder: str | Path) -> tuple[int, str]:
    """Return a survey's ``count`` and ``digest`` alone, without a look into the files."""
    images = ImageFolder(folder)
    paths = [images.get_data_info(i)["img_path"] for i in range(len(images))]
    return len(paths), listing_digest(paths, images.data_root)


def listing_digest(paths: Sequence[str], folder: str | Path) -> str:
    """Return the SHA-256 of the paths below a folder."""
    begin = len(str(folder).rstrip("/")) + 1
    names = (path[begin:].encode(errors="surrogateescape") for path in paths)
    return hashlib.sha256(b"\0".join(names)).hexdigest()


def _read_header(path: str) -> Header:
    try:
        return read_header(path)
    except UnreadableImageError:
        if first_bytes(path) not in TIFF_BEGINS:
            raise
        return read_deep_header(path)


def _spread(items: Sequence[str], most: int) -> list[str]:
    """Return at most so many items, spread evenly, in order."""
    if len(items) <= most:
        return list(items)
    return [items[k * len(items) // most] for k in range(most)]
