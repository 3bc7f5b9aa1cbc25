"""From a file or an array to uint8 pixels, whatever the file holds."""

from __future__ import annotations

import functools
import io
import math
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageFile, TiffImagePlugin
from torchvision.io import ImageReadMode, decode_jpeg

from msn_mm.datasets.pixel_window import Window, to_bytes
from msn_mm.errors import UserError

# Pillow's modes of one channel with more than 8 bits.
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FULL_16_BIT = 65535

# What is tried on a file, whatever its name says. Nothing here starts another
# program, as Pillow does for PostScript.
_FORMATS = (
    *("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB"),
    *("PPM", "TGA", "JPEG2000", "AVIF", "ICO", "PCX", "SGI"),
)
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
TIFF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ODD_TIFF = (
    "a TIFF that is damaged or has other than 1 or 3 channels; msn-mm image-stats tells how "
    "such are read"
)

FULL_PIXELS = 2**25
"""Images of more pixels are read at a half, a third ... of their sides."""
MAX_PIXELS = 10**8
"""Images of more pixels are refused, but for JPEGs, whose decoder can shrink."""


def printable(name: str) -> str:
    """Return a file name on one line of valid text: what is neither becomes an escape.

    A name's bytes need not be UTF-8, and a log file's must be.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UnreadableImageError(OSError):
    """An image that cannot be decoded: a property of the data, not a bug.

    Args:
        path: File name, or a name for an image in memory.
        reason: Why, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        path = printable(path)
        super().__init__(f"cannot read image {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


def read_image(path: str | Path, channels: int = 3, content: bytes | None = None) -> np.ndarray:
    """Decode an image file.

    Told by its content, not by its name. The orientation of EXIF is honoured.
    Palettes, CMYK, transparency (dropped, not composed) and 16-bit grey scale
    all end as 8-bit RGB, or as 8-bit grey for one channel; of an animation the
    first picture counts. A file that ends too early is damaged: what is missing
    would be grey, and a model would learn it.

    Memory stays bounded: beyond ``FULL_PIXELS`` an image is shrunk by the
    smallest whole number that brings it there, and beyond ``MAX_PIXELS`` it is
    refused before a pixel is decoded. A baseline JPEG, which is shrunk while it
    is decoded (by 2, 4 or 8), may have as many as Pillow allows (179 million).

    Args:
        path: The file.
        channels: 3 for RGB, 1 for grey.
        content: What the file holds, where it is known already; ``path`` is then no
            more than a name.

    Returns:
        uint8 (H, W, channels), writable.

    Raises:
        UnreadableImageError: If the file cannot be opened or decoded, or is too large.
    """
    # Decoders of damaged files raise whatever their parsers run into
    # (SyntaxError, struct.error, IndexError, ...): none of it is our bug. Their
    # warnings name no file, and one of them is about sizes that are judged here.
    try:
        # Not by its name: Pillow 13 maps a plain TIFF that is named into memory, and mixes up
        # the pixels of one that is to be turned onto its side.
        with _opened(path, content) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats()) as image:
                pixels = _plain_jpeg(image, channels)
                if pixels is not None:
                    return _turned(pixels, orientation(image))
                _shrink_in_decoder(image)
                image.load()  # some formats tell, or already honour, the orientation only now
                turn = orientation(image)
                small = _reduce(image)
                small = to_mode(small, "RGB" if channels == 3 else "L")
                return to_array(small if turn is None else small.transpose(turn))
    except Exception as error:
        raise UnreadableImageError(str(path), reason(error, path, content)) from error


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        width: In pixels, as the image is seen (EXIF's orientation is honoured).
        height: Likewise.
        format: Pillow's name of the format.
    """

    width: int
    height: int
    format: str


def read_header(path: str | Path) -> Header:
    """Read size and kind of an image file; its pixels may still be damaged.

    Args:
        path: The file.

    Raises:
        UnreadableImageError: If the file cannot be opened or is no image.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats()) as image:
                width, height = image.size
                if isinstance(image, TiffImagePlugin.TiffImageFile):
                    # Pillow may have turned this size already, by its version.
                    tags = image.tag_v2
                    width, height = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
                if orientation(image) in _SIDEWAYS:
                    width, height = height, width
                return Header(width, height, str(image.format))
    except Exception as error:
        raise UnreadableImageError(str(path), reason(error, path, None)) from error


def _opened(path: str | Path, content: bytes | None) -> IO[bytes]:
    if content is not None:
        return io.BytesIO(content)
    check_regular(path)
    return Path(path).open("rb")


def as_pixels(results: dict[str, Any], channels: int, window: Window | None = None) -> np.ndarray:
    """Return the pixels of a data sample that holds ``img``, ``img_packed`` or ``img_path``.

    Args:
        results: ``img``: uint8 (H, W, C) or (H, W), RGB; or ``img_packed``: a
            :class:`~msn_mm.datasets.packed_images.PackedImage`; or ``img_path``: a file.
        channels: Channels that are wanted; grey becomes RGB and RGB grey.
        window: The range of a file's values, or of a uint16 array's, that becomes 0 to 255.

    Returns:
        uint8 (H, W, channels), contiguous and writable.

    Raises:
        UnreadableImageError: If the image is empty or its file is damaged.
        UserError: If the array is no uint8 image of a usable number of channels.
    """
    if results.get("img") is None:
        packed = results.get("img_packed")
        if window is not None or channels not in (1, 3):
            from msn_mm.datasets.deep_images import read_pixels

            if packed is None:
                return read_pixels(results["img_path"], channels, window)
            return read_pixels(packed.name, channels, window, packed.read())
        if packed is None:
            return read_image(results["img_path"], channels)
        return read_image(packed.name, channels, packed.read())
    pixels = np.asarray(results["img"])
    if window is not None and pixels.dtype in (np.uint8, np.uint16):
        pixels = to_bytes(pixels[..., None] if pixels.ndim == 2 else pixels, window)
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


@functools.cache
def formats() -> tuple[str, ...]:
    """Return what is tried on a file, whatever its name says."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # builds of Pillow differ


def _plain_jpeg(image: Image.Image, channels: int) -> np.ndarray | None:
    """Decode a JPEG of an everyday kind and size; ``None`` leaves any other to Pillow.

    torchvision writes libjpeg's pixels straight into an array; Pillow takes the same
    ones through four bytes a pixel and back, which costs a third more in all.
    """
    if image.format not in ("JPEG", "MPO") or image.width * image.height > FULL_PIXELS:
        return None
    # What becomes of other colours, and of colour that is to be grey, Pillow decides.
    if image.mode != "L" and (image.mode != "RGB" or channels != 3):
        return None
    assert isinstance(image, ImageFile.ImageFile) and image.fp is not None  # load() closes it
    file = image.fp
    begin = file.tell()
    file.seek(0)
    data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    try:
        mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
        return decode_jpeg(data, mode=mode).permute(1, 2, 0).numpy()
    except RuntimeError:  # damaged, or a torchvision built without JPEG: Pillow has the last word
        file.seek(begin)
        return None


def _turned(pixels: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    """Turn pixels (H, W, C) as Pillow would."""
    if turn is None:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return to_array(image.transpose(turn))


def _shrink_in_decoder(image: Image.Image) -> None:
    """Let a large JPEG's decoder shrink it, and refuse any other image that is too large."""
    width, height = image.size
    if width * height <= FULL_PIXELS:
        return
    if image.format in ("JPEG", "MPO"):
        factor = math.sqrt(width * height / FULL_PIXELS)
        # A draft never goes below the size that is asked for: ask for what the
        # next power of two gives.
        scale = 2 ** math.ceil(math.log2(factor))
        image.draft(None, (width // scale, height // scale))
        # A progressive one is kept whole in memory, as coefficients, at any scale.
        if not image.info.get("progressive"):
            width, height = image.size
    check_size(width, height)


def check_size(width: int, height: int) -> None:
    """Raise ``ValueError`` for more pixels than are decoded."""
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels are more than the {MAX_PIXELS / 1e6:.0f} million allowed"
        )


def check_regular(path: str | Path) -> None:
    """Raise ``ValueError`` for what is no file: opening a pipe would wait for its writer."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")


def _reduce(image: Image.Image) -> Image.Image:
    factor = 1
    while math.ceil(image.width / factor) * math.ceil(image.height / factor) > FULL_PIXELS:
        factor += 1
    if factor == 1:
        return image
    if image.mode in ("1", "P", "PA") or image.mode.startswith("I;16"):
        # These have no mean of pixels: every n-th one, then.
        size = (math.ceil(image.width / factor), math.ceil(image.height / factor))
        return image.resize(size, Image.Resampling.NEAREST)
    return image.reduce(factor)


def first_bytes(path: str | Path) -> bytes:
    """Return the 4 bytes that tell a file's kind."""
    with Path(path).open("rb") as file:
        return file.read(4)


def orientation(image: Image.Image) -> Image.Transpose | None:
    """Return how EXIF wants an image turned."""
    try:
        number = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged side information says nothing about the pixels
        return None
    return TURNS.get(number) if isinstance(number, int) else None


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(TURNS[number] for number in (5, 6, 7, 8))


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Bring an image to mode L or RGB, 16 bits to 8."""
    if image.mode == mode:
        return image
    if image.mode in DEEP_MODES:
        # Pillow would clip 16 bits to 255, which leaves white.
        values = np.asarray(image)
        if image.mode != "I" or values.max(initial=0) > 255:
            values = (values.clip(0, _FULL_16_BIT).astype(np.uint32) + 128) // 257
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range; store them as 8 or 16 bits")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def reason(error: Exception, path: str | Path, content: bytes | None) -> str:
    """Say in a few words why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        size = Path(path).stat().st_size if content is None else len(content)
        if size == 0:
            return "empty file"
        head = content[:4] if content is not None else first_bytes(path)
        return _ODD_TIFF if head in TIFF_BEGINS else "not an image"
    # One line: some decoders put several into their message.
    return " ".join(str(error).split()) or type(error).__name__
