"""From a file or an array to uint8 pixels, whatever the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from msn_mm.errors import UserError

# Pillow's modes of one channel with more than 8 bits.
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FULL_16_BIT = 65535


class UnreadableImageError(OSError):
    """An image that cannot be decoded: a property of the data, not a bug.

    Args:
        path: File name, or a name for an image in memory.
        reason: Why, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read image {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Decode an image file.

    The orientation of EXIF is honoured. Palettes, CMYK, transparency (dropped,
    not composed) and 16-bit grey scale all end as 8-bit RGB, or as 8-bit grey
    for one channel.

    Args:
        path: The file.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 (H, W, channels), writable.

    Raises:
        UnreadableImageError: If the file cannot be opened or decoded.
    """
    # Decoders of damaged files raise whatever their parsers run into
    # (SyntaxError, struct.error, IndexError, ...): none of it is our bug.
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return to_array(_to_mode(image, "RGB" if channels == 3 else "L"))
    except Exception as error:
        raise UnreadableImageError(str(path), _reason(error, path)) from error


def as_pixels(results: dict[str, Any], channels: int) -> np.ndarray:
    """Return the pixels of a data sample that holds ``img`` or ``img_path``.

    Args:
        results: ``img``: uint8 (H, W, C) or (H, W), RGB; or ``img_path``: a file.
        channels: Channels that are wanted; grey becomes RGB and RGB grey.

    Returns:
        uint8 (H, W, channels), contiguous and writable.

    Raises:
        UnreadableImageError: If the image is empty or its file is damaged.
        UserError: If the array is no uint8 image of a usable number of channels.
    """
    if results.get("img") is None:
        if channels not in (1, 3):
            raise UserError(f"an image file has 1 or 3 channels, not {channels}")
        return read_image(results["img_path"], channels)
    pixels = np.asarray(results["img"])
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise UserError(
            f"'img' must be uint8 (H, W, C), got {pixels.dtype} of shape {pixels.shape}"
        )
    if pixels.size == 0:
        name = str(results.get("img_path") or f"number {int(results.get('sample_idx', -1))}")
        raise UnreadableImageError(name, f"zero-sized, shape {pixels.shape}")
    found = pixels.shape[2]
    if found == channels:
        return np.require(pixels, requirements=("C", "W"))
    if found == 1 and channels == 3:
        return pixels.repeat(3, axis=2)
    if found == 3 and channels == 1:
        return to_array(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
    raise UserError(f"the image has {found} channels and the views want {channels}")


def to_array(image: Image.Image) -> np.ndarray:
    """Return a Pillow image of mode L or RGB as writable uint8 (H, W, C)."""
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode in _DEEP_MODES:
        # Pillow would clip 16 bits to 255, which leaves white.
        values = np.asarray(image).astype(np.float64)
        if values.max(initial=0) > 255 or image.mode != "I":
            values = values * (255 / _FULL_16_BIT)
        image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range; store them as 8 or 16 bits")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def _reason(error: Exception, path: str | Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "empty file" if Path(path).stat().st_size == 0 else "not an image"
    # One line: some decoders put several into their message.
    return " ".join(str(error).split()) or type(error).__name__
