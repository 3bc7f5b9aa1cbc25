"""What is in a tar file: where each image begins, and its label."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.decode import printable
from msn_mm.datasets.image_folder import EXTENSIONS
from msn_mm.datasets.shards.names import webdataset
from msn_mm.errors import UserError

_BLOCK = 512
# A label is a number or a word; what is longer is something else.
_LONGEST_LABEL = 256


@dataclass(frozen=True)
class Contents:
    """The n samples of a shard.

    Attributes:
        offsets: ``(n,)`` first byte of each image in the shard.
        sizes: ``(n,)`` bytes of each image.
        names: ``(n,)`` name of each image in the shard, as bytes.
        labels: ``(n,)`` content of each label, as bytes; ``(0,)`` where none is wanted.
    """

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    names: NDArray[np.bytes_]
    labels: NDArray[np.bytes_]


@dataclass
class _Sample:
    key: str
    images: list[tarfile.TarInfo] = field(default_factory=list)
    label: bytes | None = None


def look_through(shard: str, file: IO[bytes], image: str | None, label: str | None) -> Contents:
    """List the images of an open tar file; their bytes are skipped.

    Members are put together to samples as webdataset does: neighbours of one name up
    to the first dot are one sample, the rest of their names, in lower case, tells
    them apart.

    Args:
        shard: What the shard is called in messages.
        file: The shard, seekable.
        image: The ending of the images (``jpg``, ``left.png``); None for whatever
            ends like an image, one a sample.
        label: The ending of the labels (``cls``); None for none.

    Raises:
        UserError: The file is no tar, ends too early, or has no images; a sample has several
            images; with ``label``, a sample with an image has none, or no short text.
    """
    found: list[tarfile.TarInfo] = []
    labels: list[bytes] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for sample in _samples(tar, image, label):
                if not sample.images:
                    continue
                if len(sample.images) > 1:
                    raise UserError(_several(shard, sample))
                found += sample.images
                if label is not None:
                    labels.append(_checked(shard, sample, label))
            end = tar.offset
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"shard {shard} is no whole tar file ({error}); copy it anew") from error
    # Where tarfile meets what is no header it takes that for the end.
    file.seek(end)
    if file.read(_BLOCK).strip(b"\0") or file.tell() < end + _BLOCK:
        raise UserError(
            f"shard {shard} is no whole tar file (no end mark at byte {end}); copy it anew"
        )
    if not found:
        wanted = f"a member that ends in .{image}" if image else "an image"
        raise UserError(f"shard {shard} holds no image: none of its members is {wanted}")
    return Contents(
        offsets=np.array([member.offset_data for member in found], dtype=np.int64),
        sizes=np.array([member.size for member in found], dtype=np.int64),
        names=np.array([os.fsencode(member.name) for member in found], dtype=np.bytes_),
        labels=np.array(labels, dtype=np.bytes_),
    )


def _samples(tar: tarfile.TarFile, image: str | None, label: str | None) -> Iterator[_Sample]:
    split = webdataset().tariterators.base_plus_ext
    sample = _Sample("")
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # tarfile keeps all, as objects
        if not member.isreg() or os.path.basename(member.name).startswith((".", "__")):
            continue
        key, ending = split(member.name)
        if key is None:
            continue
        if key != sample.key:
            yield sample
            sample = _Sample(key)
        ending = ending.lower()
        if ending == image or (image is None and f".{ending}".endswith(EXTENSIONS)):
            sample.images.append(member)
        elif ending == label:
            content = tar.extractfile(member)
            sample.label = content.read(_LONGEST_LABEL + 1) if content is not None else None
    yield sample


def _several(shard: str, sample: _Sample) -> str:
    names = [printable(member.name) for member in sample.images[:2]]
    ending = names[0].rpartition("/")[2].partition(".")[2]
    return (
        f"shard {shard}: sample '{printable(sample.key)}' has {len(sample.images)} images "
        f"({', '.join(names)}); names up to their first dot make a sample: choose one by its "
        f"ending, image='{ending}', or rename"
    )


def _checked(shard: str, sample: _Sample, label: str) -> bytes:
    text = (sample.label or b"").strip()
    if not text or len(text) > _LONGEST_LABEL or b"\n" in text or b"\0" in text:
        what = "no label" if sample.label is None else "a label that is no number and no word"
        raise UserError(
            f"shard {shard}: sample '{printable(sample.key)}' has {what} (.{label}); give each "
            "image one, or another ending by labels="
        )
    return text
