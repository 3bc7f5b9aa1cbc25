"""Images of more than 8 bits or of any number of channels, value by value.

Everyday images take the faster road of :mod:`msn_mm.datasets.decode`. Multi-channel
TIFFs, and TIFFs of more than 8 bits in colour, are read by tifffile, which is optional.
"""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msn_mm.datasets import decode
from msn_mm.datasets.pixel_window import Window, to_bytes

Values = NDArray[Any]

_GREY_OR_RGB = (0, 1, 2)  # of TIFF's photometric interpretations; the others have 8 bits
_ALPHA = (1, 2)  # of TIFF's kinds of extra samples
# Luma of ITU-R BT.601 in units of 2 ** -16, as Pillow rounds it.
_LUMA = np.array([19595, 38470, 7471], dtype=np.uint32)
# Without it a file of many channels cannot be told from a damaged one.
_NEEDS_TIFFFILE = (
    "a TIFF of many channels, of several with more than 8 bits, or damaged; the first two need "
    "tifffile: pip install 'msn_mm[tiff]'"
)


def read_pixels(
    path: str | Path, channels: int, window: Window | None, content: bytes | None = None
) -> NDArray[np.uint8]:
    """Decode an image file and map its values to 8 bits.

    Grey becomes RGB and RGB grey where ``channels`` asks for it; any other number of
    channels has to be the file's. The pages of a TIFF count as channels where there
    are as many as asked for. Memory is bounded as in
    :func:`~msn_mm.datasets.decode.read_image`.

    Args:
        path: The file.
        channels: C.
        window: The range of values that becomes 0 to 255; ``None`` for all that the
            file's type holds.
        content: What the file holds, where it is known already.

    Returns:
        uint8 (H, W, C), contiguous and writable.

    Raises:
        UnreadableImageError: The file cannot be decoded, is too large, has other channels, or
            needs an optional library.
    """
    values = read_values(path, channels, content)
    try:
        pixels = to_bytes(_with_channels(values, channels), window)
    except ValueError as error:
        raise decode.UnreadableImageError(str(path), str(error)) from error
    height, width = pixels.shape[:2]
    factor = math.ceil(math.sqrt(height * width / decode.FULL_PIXELS))
    if factor > 1:
        size = (math.ceil(width / factor), math.ceil(height / factor))
        small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(small, dtype=np.uint8).reshape(*size[::-1], channels)
    return np.require(pixels, requirements=("C", "W"))


def read_values(
    path: str | Path, channels: int | None = None, content: bytes | None = None
) -> Values:
    """Decode an image file to its own values.

    The orientation is honoured and transparency dropped. Values are never scaled.

    Args:
        path: The file.
        channels: C that is wanted, which tells whether pages are channels; ``None`` for
            what the file itself calls channels.
        content: What the file holds, where it is known already.

    Returns:
        uint8 or uint16 (H, W, C), C as the file has it.

    Raises:
        UnreadableImageError: The file cannot be decoded or is too large, or its values
            are no whole numbers from 0 to 65535; or it needs an optional library.
    """
    # As in decode: a damaged file makes parsers raise anything, and none of it is our bug.
    try:
        if content is None:
            decode.check_regular(path)
            content = Path(path).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if content[:4] in decode.TIFF_BEGINS and not _is_plain_tiff(content, channels):
                return _of_tiff(content, channels)
            return _of_pillow(content)
    except Exception as error:
        raise decode.UnreadableImageError(str(path), decode.reason(error, path, content)) from error


def read_deep_header(path: str | Path) -> decode.Header:
    """Read the size of a file that Pillow knows nothing of: a TIFF of many channels.

    Raises:
        UnreadableImageError: It is none, or needs an optional library.
    """
    try:
        if decode.first_bytes(path) not in decode.TIFF_BEGINS:
            raise ValueError("not an image")
        if not _has_tifffile():
            raise ValueError(_NEEDS_TIFFFILE)
        from tifffile import TiffFile

        with TiffFile(path) as file:
            series = file.series[0]
            height, width = (int(series.shape[series.axes.index(axis)]) for axis in "YX")
        return decode.Header(width, height, "TIFF")
    except Exception as error:
        raise decode.UnreadableImageError(str(path), decode.reason(error, path, None)) from error


def pages_of(path: str | Path) -> int:
    """Return how many pages a file has that are not said to be channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=decode.formats()) as image:
            return int(getattr(image, "n_frames", 1))


def _is_plain_tiff(content: bytes, channels: int | None) -> bool:
    """Whether Pillow reads a TIFF without loss, the same with tifffile or without."""
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
            bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
            is_deep = len(bits) > 1 and max(bits) > 8
            has_extra = len(bits) > {"L": 1, "RGB": 3}.get(image.mode, len(bits))
            if channels in (1, 3):
                return not is_deep
            # tifffile knows whether pages are channels.
            has_pages = getattr(image, "n_frames", 1) > 1 and _has_tifffile()
            return channels is None and not (has_pages or is_deep or has_extra)
    except Image.UnidentifiedImageError:
        return False


def _has_tifffile() -> bool:
    return importlib.util.find_spec("tifffile") is not None


def _of_pillow(content: bytes) -> Values:
    with Image.open(io.BytesIO(content), formats=decode.formats()) as image:
        decode.check_size(image.width, image.height)
        is_deep = image.format == "PNG" and "16" in str(image.tile[0][3] if image.tile else "")
        image.load()
        turn = decode.orientation(image)
        if is_deep and image.mode in ("RGB", "RGBA", "LA"):
            # Pillow keeps the upper 8 bits alone; it has told by now that the file is whole.
            data = np.frombuffer(content, dtype=np.uint8)
            values = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))[..., 2::-1]
            values = values[..., :1] if image.mode == "LA" else values
        elif image.mode in decode.DEEP_MODES:
            values = np.asarray(image)
            if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
                raise ValueError("values outside 0 to 65535; store them as 8 or 16 bits")
            values = values.astype(np.uint16)[..., None]
        else:
            is_grey = image.mode in ("1", "L", "LA")
            values = decode.to_array(decode.to_mode(image, "L" if is_grey else "RGB"))
    return _turned(values, turn)


def _of_tiff(content: bytes, channels: int | None) -> Values:
    if not _has_tifffile():
        raise ValueError(_NEEDS_TIFFFILE)
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(content)) as file:
        series = file.series[0]
        page = series.keyframe
        if int(page.photometric) not in _GREY_OR_RGB:
            return _of_pillow(content)
        axes = series.axes
        places = [axes.index("Y"), axes.index("X")]
        height, width = (series.shape[place] for place in places)
        decode.check_size(height, width)
        if math.prod(series.shape) > 3 * decode.MAX_PIXELS:
            raise ValueError(f"{series.shape} values are more than 300 million")
        values = series.asarray()
        tag = page.tags.get("Orientation")
        turn = decode.TURNS.get(int(tag.value)) if tag is not None else None
        is_inverted = int(page.photometric) == 0
        alphas = sum(int(kind) in _ALPHA for kind in page.extrasamples)
    if values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{values.dtype} has no range that is known; store it as 8 or 16 bits")
    others = [place for place in range(values.ndim) if place not in places]
    if math.prod(values.shape[place] for place in others) != channels:
        # Depths, times and plain pages are no channels: the first counts.
        first = [slice(None) if axis in "YXCS" else slice(1) for axis in axes]
        values = values[tuple(first)]
    values = values.transpose([*places, *others]).reshape(height, width, -1)
    values = values[..., : values.shape[2] - alphas] if alphas < values.shape[2] else values
    values = values.astype(values.dtype.newbyteorder("="))
    if is_inverted:
        values = np.iinfo(values.dtype).max - values
    return _turned(values, turn)


def _turned(values: Values, turn: Image.Transpose | None) -> Values:
    """Turn (H, W, C) as Pillow turns an image."""
    kinds = Image.Transpose
    if turn is None:
        return values
    if turn in (kinds.ROTATE_90, kinds.ROTATE_180, kinds.ROTATE_270):
        quarters = {kinds.ROTATE_90: 1, kinds.ROTATE_180: 2, kinds.ROTATE_270: 3}
        return np.rot90(values, quarters[turn])
    if turn == kinds.FLIP_LEFT_RIGHT:
        return values[:, ::-1]
    if turn == kinds.FLIP_TOP_BOTTOM:
        return values[::-1]
    return (values if turn == kinds.TRANSPOSE else values[::-1, ::-1]).swapaxes(0, 1)


def _with_channels(values: Values, channels: int) -> Values:
    found = values.shape[2]
    if found == channels:
        return values
    if found == 1 and channels == 3:
        return values.repeat(3, axis=2)
    if found == 3 and channels == 1:
        luma = (values.astype(np.uint32) @ _LUMA + 0x8000) >> 16
        return luma.astype(values.dtype)[..., None]
    raise ValueError(f"it has {found} channels, and {channels} are wanted")
