"""What the pixels of a folder are: channels, bits, range, mean and deviation.

One pass over a sample of the images counts how often each value occurs in each channel.
All numbers follow from these counts exactly, also those of the 8 bits that a window,
known only afterwards, makes of them.

Legend: C channels, L values that a type holds (256 or 65,536).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.decode import TIFF_BEGINS, UnreadableImageError, first_bytes, printable
from msn_mm.datasets.deep_images import pages_of, read_values
from msn_mm.datasets.image_folder import ImageFolder
from msn_mm.datasets.keys import PERMUTATION_STREAM, philox
from msn_mm.datasets.pixel_window import Window, table_of
from msn_mm.errors import UserError

SAMPLE = 1000
"""Images that are looked at by default."""

OUTSIDE = 0.001
"""Share of values that a window leaves out at each end."""

# A constant channel has no deviation to divide by.
_LEAST_STD = 1.0

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class FolderStatistics:
    """What the images of a folder hold; every image of the sample weighs the same.

    Attributes:
        channels: C.
        bits: 8 or 16, of the files.
        mean: Of each channel, from 0 to 255, as the model's preprocessor wants them.
        std: Likewise, at least 1.
        window: The range of values that becomes 0 to 255, all but a thousandth of the values
            at each end; ``None`` for files of 8 bits, whose values stay as they are.
        is_grey: No image of the sample shows colour: one channel, or three that are alike.
        lowest: The smallest value of each channel, in the files' units.
        highest: The largest.
        sampled: How many images were looked at.
        total: How many the folder holds.
        errors: By path why an image of the sample cannot be read.
        notes: What may surprise, one sentence each.
    """

    channels: int
    bits: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: Window | None
    is_grey: bool
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    sampled: int
    total: int
    errors: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {
            "channels": self.channels,
            "bits": self.bits,
            "mean": list(self.mean),
            "std": list(self.std),
            "window": None if self.window is None else [list(pair) for pair in self.window],
            "grey": self.is_grey,
            "lowest": list(self.lowest),
            "highest": list(self.highest),
            "sampled": self.sampled,
            "images": self.total,
            "unreadable": len(self.errors),
        }


def folder_statistics(
    folder: str | Path,
    sample: int = SAMPLE,
    channels: int | None = None,
    seed: int = 0,
    step: Callable[[int, int], None] | None = None,
) -> FolderStatistics:
    """Look at a folder's images, or at a random sample of them that a seed decides.

    Grey and RGB files in one folder count as RGB, as they are read, and files of 16 bits
    among such of 8 by their upper 8 bits; any other number of channels has to be that of
    all files. Memory: C x L counts, and one image.

    Args:
        folder: The images, however deep.
        sample: How many images at most.
        channels: C, where the files do not tell: pages of a TIFF may be channels.
        seed: Seed of the sample.
        step: Is told after each image how many are done, and of how many.

    Raises:
        UserError: There are no images, none of the sample can be read, or they
            differ in channels.
        ValueError: ``sample`` or ``channels`` is below 1.
    """
    if sample < 1 or (channels is not None and channels < 1):
        raise ValueError(f"sample {sample} or channels {channels} is impossible")
    images = ImageFolder(folder)
    order = philox(seed, 0, 0, 0, PERMUTATION_STREAM).permutation(len(images))[:sample]
    chosen = sorted(order.tolist())  # in the order of the files on a disk
    paths = [images.get_data_info(i)["img_path"] for i in chosen]
    seen = _Seen(channels)
    errors: dict[str, str] = {}
    for done, path in enumerate(paths, 1):
        try:
            seen.add(path, read_values(path, channels))
        except UnreadableImageError as error:
            errors[path] = error.reason
        if step is not None:
            step(done, len(paths))
    if not seen.count:
        path, why = next(iter(errors.items()))
        raise UserError(f"no image of {folder} can be read: {printable(path)}: {why}")
    return _of_counts(seen, len(images), errors)


class _Seen:
    """Counts of values, summed over images that each weigh one.

    Args:
        wanted: C, where it was given.
    """

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.count = 0
        self.sums: Counts = np.zeros((0, 0))
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.is_grey = True
        self.notes: list[str] = []
        self._first = ""

    def add(self, path: str, values: NDArray[Any]) -> None:
        """Count an image's values, uint8 or uint16 (H, W, C)."""
        if not self.count:
            self._first, self.dtype = path, values.dtype
            if values.shape[2] == 1 and self.wanted is None:
                self._look_for_pages(path)
        found = values.shape[2]
        if found == 1 and self.wanted == 3:
            values = values.repeat(3, axis=2)
        elif self.wanted is not None and found != self.wanted:
            raise self._differs(path, f"{found} channels, not {self.wanted}")
        self.is_grey &= _shows_no_colour(values)
        counts = _counts(values)
        if not self.count:
            self.sums = counts
        elif values.dtype != self.dtype:
            counts = self._of_8_bits(path, counts)
            self.sums, counts = self._alike(path, self.sums, counts)
            self.sums += counts
        else:
            self.sums, counts = self._alike(path, self.sums, counts)
            self.sums += counts
        self.count += 1

    def _of_8_bits(self, path: str, counts: Counts) -> Counts:
        """Let files of 16 bits count as of 8 where there are such, as a training reads them."""
        if self.dtype == np.uint16:
            self.sums, self.dtype = _as_bytes(self.sums), np.dtype(np.uint8)
        if not any("16 bits" in note for note in self.notes):
            self.notes.append(
                f"files of 8 and of 16 bits lie side by side ({printable(self._first)}, "
                f"{printable(path)}); of 16 the upper 8 count"
            )
        return _as_bytes(counts)

    def _alike(self, path: str, ours: Counts, theirs: Counts) -> tuple[Counts, Counts]:
        """Let grey count as RGB where there is RGB, and refuse any other difference."""
        if len(ours) == len(theirs):
            return ours, theirs
        if {len(ours), len(theirs)} != {1, 3}:
            raise self._differs(path, f"{len(theirs)} channels, not {len(ours)}")
        return _thrice(ours), _thrice(theirs)

    def _differs(self, path: str, what: str) -> UserError:
        return UserError(
            f"{printable(path)} has {what}, unlike {printable(self._first or path)}; keep images "
            "of one kind in a folder"
        )

    def _look_for_pages(self, path: str) -> None:
        pages = pages_of(path) if first_bytes(path) in TIFF_BEGINS else 1
        if pages > 1:
            self.notes.append(
                f"{printable(path)} has {pages} pages; if they are channels of one image, give "
                f"--channels {pages}"
            )


def _as_bytes(counts: Counts) -> Counts:
    if counts.shape[1] == 256:
        return counts
    return np.stack(
        [np.bincount(table_of(np.uint16, None), weights=row, minlength=256) for row in counts]
    )


def _shows_no_colour(values: NDArray[Any]) -> bool:
    """Whether the channels of (H, W, C) differ by less than a 256th of their range on average."""
    if values.shape[2] == 1:
        return True
    if values.shape[2] != 3:
        return False
    high, low = values.max(axis=2).astype(np.float64), values.min(axis=2)
    return float((high - low).mean()) < np.iinfo(values.dtype).max / 255


def _thrice(counts: Counts) -> Counts:
    return counts.repeat(3, axis=0) if len(counts) == 1 else counts


def _counts(values: NDArray[Any]) -> Counts:
    """Return the share of each value in each channel, (C, L)."""
    size = int(np.iinfo(values.dtype).max) + 1
    flat = values.reshape(-1, values.shape[2])
    counts = [np.bincount(flat[:, c], minlength=size) for c in range(flat.shape[1])]
    return np.stack(counts) / len(flat)


def _of_counts(seen: _Seen, total: int, errors: dict[str, str]) -> FolderStatistics:
    shares = seen.sums / seen.count
    used = [np.flatnonzero(row) for row in shares]
    window = None
    if seen.dtype == np.uint16:
        window = tuple(_window(row) for row in shares)
    pairs = window or [None] * len(shares)
    levels = np.stack([table_of(seen.dtype, pair) for pair in pairs]).astype(np.float64)
    mean = (shares * levels).sum(axis=1)
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
    return FolderStatistics(
        channels=len(shares),
        bits=8 * seen.dtype.itemsize,
        mean=tuple(mean.round(2).tolist()),
        std=tuple(np.maximum(std, _LEAST_STD).round(2).tolist()),
        window=window,
        is_grey=seen.is_grey,
        lowest=tuple(int(values[0]) for values in used),
        highest=tuple(int(values[-1]) for values in used),
        sampled=seen.count,
        total=total,
        errors=errors,
        notes=tuple(seen.notes),
    )


def _window(shares: Counts) -> tuple[float, float]:
    """Return the smallest range with at most :data:`OUTSIDE` of a channel below and above it."""
    below = shares.cumsum()
    low = int(np.searchsorted(below, OUTSIDE * below[-1], side="right"))
    high = int(np.searchsorted(below, (1 - OUTSIDE) * below[-1], side="left"))
    return float(low), float(max(high, low + 1))
