"""How many images a folder has, how large they are, and whether they are grey."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msn_mm.datasets.decode import UnreadableImageError, read_header, read_image
from msn_mm.datasets.image_folder import ImageFolder
from msn_mm.errors import UserError
from msn_mm.utils.progress import Progress

HEADERS = 1000
"""Files whose header is read."""
PIXELS = 128
"""Of these the files that are decoded whole."""
LEAST_IMAGES = 32
"""Fewer would be no two batches."""
# Mean difference of the channels, in grey levels, below which an RGB file shows no colour.
_GREY = 1.0


@dataclass(frozen=True)
class Survey:
    """A folder of images, by a sample that is spread evenly over it.

    Attributes:
        count: Files that are taken for images.
        digest: SHA-256 of their paths below the folder, in order.
        short_side: 10 %, 50 % and 90 % quantile of the shorter side, in pixels.
        formats: How many of the sample have which format.
        is_grey: No image of the sample has colour.
        mean: Of each channel (one of grey images), on the scale 0-255.
        std: Likewise.
        headers: Files of the sample.
        broken: What is wrong with those of them that cannot be read, by path.
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

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.is_grey else 3

    def __str__(self) -> str:
        """Return the folder in a few words."""
        low, middle, high = self.short_side
        sides = f"{middle}" if low == high else f"{low} to {high} (median {middle})"
        kinds = ", ".join(sorted(self.formats, key=lambda name: (-self.formats[name], name)))
        colour = "grey" if self.is_grey else "in colour"
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
        UserError: There are too few images, or none of the sample can be read.
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
    whole = set(_spread(sample, PIXELS))
    pixels: list[np.ndarray] = []
    with Progress(len(sample), "looking at the images" if progress else None) as shown:
        for number, path in enumerate(sample):
            try:
                header = read_header(path)
                if path in whole:
                    pixels.append(read_image(path))
                headers[path] = header
            except UnreadableImageError as error:
                broken[path] = error.reason
            shown.to(number + 1)
    if not headers or not pixels:
        path, reason = next(iter(broken.items()))
        raise UserError(
            f"no image of {folder} can be read, for example {path}: {reason}; give a directory of "
            "images"
        )
    sides = [min(header.width, header.height) for header in headers.values()]
    quantiles = np.quantile(sides, (0.1, 0.5, 0.9), method="nearest").astype(int).tolist()
    is_grey = all(map(_shows_no_colour, pixels))
    mean, std = pixel_statistics(pixels, 1 if is_grey else 3)
    return Survey(
        count=len(paths),
        digest=listing_digest(paths, images.data_root),
        short_side=(quantiles[0], quantiles[1], quantiles[2]),
        formats=dict(Counter(header.format for header in headers.values())),
        is_grey=is_grey,
        mean=mean,
        std=std,
        headers=len(sample),
        broken=broken,
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


def pixel_statistics(
    images: Sequence[np.ndarray], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel; every image counts alike.

    Args:
        images: uint8 (H, W, 3) each.
        channels: 1 takes the images for grey: their first channel.

    Returns:
        Two tuples on the scale 0-255; deviations of at least 1.
    """
    flat = [image[..., :channels].reshape(-1, channels).astype(np.float64) for image in images]
    mean = np.mean([pixels.mean(axis=0) for pixels in flat], axis=0)
    square = np.mean([np.square(pixels - mean).mean(axis=0) for pixels in flat], axis=0)
    std = np.sqrt(square).clip(min=1.0)
    return tuple(mean.round(2).tolist()), tuple(std.round(2).tolist())


def _shows_no_colour(image: np.ndarray) -> bool:
    values = image.astype(np.int16)
    return float((values.max(axis=2) - values.min(axis=2)).mean()) < _GREY


def _spread(items: Sequence[str], most: int) -> list[str]:
    """Return at most so many items, spread evenly, in order."""
    if len(items) <= most:
        return list(items)
    return [items[k * len(items) // most] for k in range(most)]
