"""Image files as they should not be: damaged, hostile or merely rare."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Files = dict[str, tuple[str, bytes]]

# What a reader must manage, and what it must refuse; the rest may go either way.
READABLE = (
    *("whole", "wrong extension", "CMYK", "16 bits", "palette", "animated", "1 x 1"),
    *("30000 x 3", "3 x 30000", "odd name", "damaged EXIF", "alpha"),
)
UNREADABLE = ("empty", "text", "bomb", "program", "odd name, damaged")

Make = Callable[[np.random.Generator], tuple[str, bytes]]


def write_mutated(root: Path, count: int, seed: int = 0) -> dict[str, list[str]]:
    """Write ``count`` files in turn over all kinds and return their paths by kind."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    kinds: dict[str, list[str]] = {}
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        extension, content = KINDS[kind](rng)
        # Each name has bytes that are no UTF-8, a line break, a direction mark, quotes ...
        odd = os.fsdecode(b"\xff\n\xe2\x80\xae'%s {0} ") if "odd name" in kind else ""
        path = root / f"{odd}{number:04}{extension}"
        path.write_bytes(content)
        kinds.setdefault(kind, []).append(str(path))
    return kinds


def _photo(rng: np.random.Generator, height: int = 48, width: int = 64) -> Image.Image:
    ramp = np.linspace(0, 120, width)[None, :, None] + np.linspace(0, 80, height)[:, None, None]
    noise = rng.integers(0, 50, (height, width, 3))
    return Image.fromarray((ramp + noise).astype(np.uint8))


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


_KINDS = (("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("TIFF", ".tif"))


def _whole(rng: np.random.Generator) -> tuple[str, bytes]:
    kind, extension = _KINDS[rng.integers(len(_KINDS))]
    return extension, _save(_photo(rng), kind)


def _cut(rng: np.random.Generator) -> tuple[str, bytes]:
    extension, content = _whole(rng)
    return extension, content[: rng.integers(1, len(content))]


def _flipped(rng: np.random.Generator) -> tuple[str, bytes]:
    extension, content = _whole(rng)
    damaged = bytearray(content)
    # Half of them in the first bytes, where sizes and tables are.
    end = len(damaged) if rng.random() < 0.5 else 64
    for place in rng.integers(0, end, rng.integers(1, 20)):
        damaged[place] ^= 1 << rng.integers(8)
    return extension, bytes(damaged)


def _zeroed(rng: np.random.Generator) -> tuple[str, bytes]:
    extension, content = _whole(rng)
    start = int(rng.integers(len(content)))
    length = int(rng.integers(1, len(content) - start + 1))
    return extension, content[:start] + bytes(length) + content[start + length :]


def _wrong_extension(rng: np.random.Generator) -> tuple[str, bytes]:
    return (".png", _save(_photo(rng), "JPEG")) if rng.random() < 0.5 else (".JPG", _whole(rng)[1])


def _cmyk(rng: np.random.Generator) -> tuple[str, bytes]:
    kind, extension = (("JPEG", ".jpg"), ("TIFF", ".tif"))[rng.integers(2)]
    return extension, _save(_photo(rng).convert("CMYK"), kind)


def _deep(rng: np.random.Generator) -> tuple[str, bytes]:
    deep = Image.fromarray(rng.integers(0, 2**16, (48, 64)).astype(np.uint16))
    kind, extension = (("PNG", ".png"), ("TIFF", ".tiff"))[rng.integers(2)]
    return extension, _save(deep, kind)


def _palette(rng: np.random.Generator) -> tuple[str, bytes]:
    image = _photo(rng).quantize(int(rng.integers(2, 257)))
    return ".png", _save(image, "PNG", transparency=bytes([0, 200, 255]))


def _animated(rng: np.random.Generator) -> tuple[str, bytes]:
    kind, extension = (("GIF", ".gif"), ("WEBP", ".webp"), ("PNG", ".png"))[rng.integers(3)]
    frames = [_photo(rng) for _ in range(3)]
    return extension, _save(frames[0], kind, save_all=True, append_images=frames[1:])


def _sized(height: int, width: int) -> Make:
    def make(rng: np.random.Generator) -> tuple[str, bytes]:
        kind, extension = (("JPEG", ".jpg"), ("PNG", ".png"))[rng.integers(2)]
        return extension, _save(_photo(rng, height, width), kind)

    return make


def _bomb(rng: np.random.Generator) -> tuple[str, bytes]:
    side = int(rng.integers(14_000, 60_000))
    which = rng.integers(4)
    if which == 0:  # a PNG whose rows are all there, in a few bytes
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        rows = zlib.compress(bytes(10_000_000), 9)
        chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
        return ".png", b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    if which == 1:  # a JPEG that says it is larger than it is
        content = bytearray(_save(_photo(rng), "JPEG"))
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", side, side)
        return ".jpg", bytes(content)
    if which == 2:
        content = bytearray(_save(_photo(rng), "GIF"))
        content[6:10] = struct.pack("<HH", side, side)
        return ".gif", bytes(content)
    content = bytearray(_save(_photo(rng), "BMP"))
    content[18:26] = struct.pack("<ii", side, side)
    return ".bmp", bytes(content)


def _program(rng: np.random.Generator) -> tuple[str, bytes]:
    return ".jpg", _save(_photo(rng), "EPS")  # Pillow would hand it to Ghostscript


def _exif(rng: np.random.Generator) -> tuple[str, bytes]:
    block = b"Exif\0\0II*\0" + rng.integers(0, 256, 40, dtype=np.uint8).tobytes()
    return ".jpg", _save(_photo(rng), "JPEG", exif=block)


KINDS: dict[str, Make] = {
    "whole": _whole,
    "cut": _cut,
    "flipped bits": _flipped,
    "zero bytes": _zeroed,
    "empty": lambda rng: (".jpg", b""),
    "text": lambda rng: (".png", b"<html>not found</html>"),
    "wrong extension": _wrong_extension,
    "CMYK": _cmyk,
    "16 bits": _deep,
    "palette": _palette,
    "alpha": lambda rng: (".png", _save(_photo(rng).convert("LA"), "PNG")),
    "animated": _animated,
    "1 x 1": _sized(1, 1),
    "30000 x 3": _sized(3, 30_000),
    "3 x 30000": _sized(30_000, 3),
    "bomb": _bomb,
    "program": _program,
    "odd name": _whole,
    "odd name, damaged": lambda rng: (".jpg", _save(_photo(rng), "JPEG")[:300]),
    "damaged EXIF": _exif,
}
