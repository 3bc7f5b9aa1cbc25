"""From a folder of images and an encoder to the images that are to be labelled first.

Legend: n images, m labelled ones, D width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msn_mm.datasets import EvaluationImages, FileList, ImageFolder
from msn_mm.errors import UserError
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.feature_cache import FeatureCache
from msn_mm.evaluation.feature_files import utf8_name
from msn_mm.evaluation.features import center_and_normalize, check_finite
from msn_mm.few_labels.choosing import Choice, choose, different_rows
from msn_mm.few_labels.encoder import EncoderSource
from msn_mm.few_labels.labels import Given

# Rows that are normalised at once, in float64.
_ROWS_AT_ONCE = 65536
_NO_UTF8 = "its name is not UTF-8, which a CSV cannot hold; rename it"


@dataclass(frozen=True)
class Suggestions:
    """Images of a folder to label, the most useful first.

    Attributes:
        folder: Where they lie.
        names: Their paths below it.
        reasons: Why each, in a few words.
        labelled: Path below the folder (or absolute) and label of those that have one.
        errors: By name why an image was left out.
        images: How many images the folder holds.
        copies: How many were left out because they look like another or a labelled one.
        method: How they were chosen.
    """

    folder: Path
    names: list[str]
    reasons: list[str]
    labelled: list[tuple[str, str]]
    errors: dict[str, str]
    images: int
    copies: int
    method: str

    def metrics(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {
            "suggested": len(self.names),
            "images": self.images,
            "labelled": len(self.labelled),
            "copies": self.copies,
            "unreadable": len(self.errors),
        }


def suggest(
    folder: str | Path,
    source: EncoderSource,
    number: int,
    method: str,
    labelled: Sequence[Given] = (),
    *,
    seed: int = 0,
    batch_size: int = 64,
    workers: int = 0,
    amp: bool = False,
    device: torch.device | str | None = None,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> Suggestions:
    """Choose images of a folder to label; see :func:`~msn_mm.few_labels.choosing.choose`.

    Features are those that a classifier learns from later.

    Args:
        folder: The images, however deep.
        source: The frozen encoder.
        number: How many.
        method: ``typical`` or ``kmeans++``.
        labelled: Images that have a label already, in the folder or elsewhere.
        seed: Seed of the method.
        batch_size: Images of a batch.
        workers: Data workers.
        amp: Compute features in bfloat16 where that is safe.
        device: Where to compute; default: the first GPU if there is one.
        cache: Where features are kept; ``None`` for nowhere.
        progress: Whether to tell a terminal how far it is.

    Raises:
        UserError: There are no images that can be read and have no label, a labelled
            one cannot be read, or features are not finite.
    """
    encoder = source.build(device, amp)

    def encode(
        images: EvaluationImages,
        indices: NDArray[np.int64] | None = None,
        unreadable: dict[int, str] | None = None,
        what: str = "labelled images",
    ) -> NDArray[np.float32]:
        rows = extract(
            encoder,
            images,
            indices,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            progress=what if progress else None,
            unreadable=unreadable,
        )
        assert rows is not None  # one process
        return rows

    files = FileList([str(path) for _, path, _ in labelled], serialize_data=False)  # of none, too
    known = EvaluationImages(files, source.view)
    images = EvaluationImages(ImageFolder(folder), source.view)
    asked, errors = _to_be_encoded(images, {known.identity(i) for i in range(len(known))})
    unreadable: dict[int, str] = {}
    rows = encode(images, asked, unreadable, "images")
    errors |= {images.names[asked[place]]: why for place, why in unreadable.items()}
    read = np.delete(np.arange(len(asked)), list(unreadable))
    if not len(read):
        left_out = next(iter(errors.items()), None)
        raise UserError(
            f"no image under {folder} is left to suggest"
            + (f": {left_out[0]!r}: {left_out[1]}" if left_out else ": all of them have a label")
        )
    rows = _unit_rows(rows[read] if unreadable else rows)
    labelled_rows = _unit_rows(encode(known)) if len(labelled) else rows[:0]
    chosen: list[Choice] = choose(rows, labelled_rows, number, method, seed)
    names = [images.names[asked[read[one.index]]] for one in chosen]
    return Suggestions(
        folder=Path(folder),
        names=names,
        reasons=[one.reason for one in chosen],
        labelled=_named(labelled, Path(folder)),
        errors=errors,
        images=len(images),
        copies=len(rows) - len(different_rows(rows, labelled_rows)),
        method=method,
    )


def _to_be_encoded(
    images: EvaluationImages, known: set[bytes]
) -> tuple[NDArray[np.int64], dict[str, str]]:
    """Return which images have no label and can be named, and why others are left out."""
    asked: list[int] = []
    errors: dict[str, str] = {}
    for i, name in enumerate(images.names):
        try:
            if images.identity(i) in known:
                continue
            name.encode()
        except UserError as error:  # a link that leads nowhere
            errors[name] = str(error).rpartition(": ")[2]
        except UnicodeEncodeError:
            errors[name] = _NO_UTF8
        else:
            asked.append(i)
    return np.array(asked, dtype=np.int64), errors


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise rows as a classifier sees them, in place."""
    check_finite(rows)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        rows[part] = center_and_normalize(rows[part])
    return rows


def _named(labelled: Sequence[Given], folder: Path) -> list[tuple[str, str]]:
    """Return names that lead to labelled images from the folder, and their labels."""
    here = os.path.abspath(folder)
    named = []
    for _, file, label in labelled:
        path = os.path.abspath(file)
        if utf8_name(path) != path:
            raise UserError(f"image '{utf8_name(path)}' has a label; {_NO_UTF8}")
        is_inside = os.path.commonpath([path, here]) == here
        named.append((Path(os.path.relpath(path, here) if is_inside else path).as_posix(), label))
    return named
