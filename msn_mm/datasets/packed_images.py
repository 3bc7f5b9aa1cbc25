"""Image files inside larger files: what tar shards, Parquet and Arrow have in common."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from msn_mm.datasets.decode import printable
from msn_mm.datasets.windows import Windows
from msn_mm.errors import UserError, did_you_mean

_NUMBER = re.compile("-?[0-9]+")


class PackedImage(NamedTuple):
    """One image file of a :class:`PackedImages`, read when it is asked for.

    Attributes:
        packed: The data set.
        row: Which of its images, its ``indices`` left aside.
    """

    packed: PackedImages
    row: int

    @property
    def name(self) -> str:
        """The file it lies in, and its name or number there, as one path."""
        return self.packed.name(self.row)

    def read(self) -> bytes:
        """Return the encoded image.

        Raises:
            UserError: The file has changed since it was looked through, or is gone.
        """
        return self.packed.read(self.row)

    def mark(self) -> str:
        """Return what tells these bytes from all others, for a cache of features."""
        return self.packed.mark(self.row)


class PackedImages(Dataset, ABC):
    """Images that lie in larger files, by their place there.

    What a subclass knows of n images are arrays, not objects: data workers
    share them with the process that started them. Each sample has ``img_packed``
    (:class:`PackedImage`), ``img_path`` (its name), and ``gt_label`` where there are labels.

    Args:
        data_root: Where the files are, as the user gave it.
        count: n.
        labels: ``(n,)``; None for none.
        classes: Names of the classes by label; empty where they are not known.
        indices: The first so many images, or these; None for all.

    Raises:
        UserError: An index is not in the data, or none is left.
    """

    def __init__(
        self,
        data_root: Any,
        count: int,
        labels: NDArray[np.int64] | None,
        classes: Sequence[str],
        indices: int | Sequence[int] | None,
    ) -> None:
        self.data_root = data_root
        self.labels = labels
        self.classes = tuple(classes)
        self.rows = _chosen(indices, count)

    @abstractmethod
    def name(self, row: int) -> str:
        """Return what an image is called in messages and tables."""

    @abstractmethod
    def read(self, row: int) -> bytes:
        """Return an encoded image."""

    @abstractmethod
    def mark(self, row: int) -> str:
        """Return what tells an image's bytes from all others."""

    @property
    @abstractmethod
    def windows(self) -> Windows | None:
        """In which order the images are to be read; None for any."""

    @property
    def metainfo(self) -> dict[str, Any]:
        """``classes``, where their names are known."""
        return {"classes": self.classes} if self.classes else {}

    def full_init(self) -> None:
        """The files were looked through when the data set was made."""

    def __len__(self) -> int:
        return len(self.rows)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return what is known of an image; its bytes are not read yet."""
        row = int(self.rows[index])
        info: dict[str, Any] = {"img_packed": PackedImage(self, row), "img_path": self.name(row)}
        if self.labels is not None:
            info["gt_label"] = int(self.labels[row])
        return info


def _chosen(indices: int | Sequence[int] | None, count: int) -> NDArray[np.int64]:
    if indices is None:
        return np.arange(count)
    if isinstance(indices, int):
        rows = np.arange(count)[:indices]
    else:
        rows = np.asarray(indices, dtype=np.int64)
    odd = rows[(rows < 0) | (rows >= count)]
    if odd.size or not rows.size:
        what = f"image {odd[0]} was asked for" if odd.size else "no image was asked for"
        raise UserError(f"{what} of a data set of {count} images; see indices")
    return rows


def numbered(
    words: Sequence[str] | NDArray[np.str_], classes: str | Path | Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels from words: themselves where all are whole numbers, else by name.

    Args:
        words: The label of each of n images.
        classes: Names of the classes by label, or a text file with one a line; None for
            the words that are there, sorted.

    Returns:
        ``(n,)`` labels, and the names of the classes, none for numbers without ``classes``.

    Raises:
        UserError: A number is below 0 or too large, a word is not among the classes, or these
            cannot be read or are fewer than the labels.
    """
    texts = np.asarray(words, dtype=np.str_)
    found, first, places = np.unique(texts, return_index=True, return_inverse=True)
    if all(_NUMBER.fullmatch(word) for word in found.tolist()):
        try:
            labels = texts.astype(np.int64)
        except OverflowError:
            word, row = max(zip(found.tolist(), first.tolist(), strict=True), key=_length)
            raise UserError(
                f"image {row} has the label {word:.30}, which is too large for a class's number"
            ) from None
        if labels.min(initial=0) < 0:
            raise UserError(
                f"image {int(labels.argmin())} has the label {labels.min()}; labels count from 0: "
                "leave out images without one, or set labels='none'"
            )
        return labels, named_classes(classes, labels)
    if classes is None:
        return places.astype(np.int64), tuple(found.tolist())
    names = named_classes(classes, None)
    for word, row in zip(found.tolist(), first.tolist(), strict=True):
        if word not in names:
            raise UserError(
                f"image {row} has the label '{printable(word)}', which classes does not name."
                f"{did_you_mean(word, names)}"
            )
    numbers = np.array([names.index(word) for word in found.tolist()], dtype=np.int64)
    return numbers[places], names


def _length(labelled: tuple[str, int]) -> int:
    return len(labelled[0])


def named_classes(
    classes: str | Path | Sequence[str] | None, labels: NDArray[np.int64] | None
) -> tuple[str, ...]:
    """Return the names of the classes that a user gave, by label.

    Args:
        classes: The names, or a text file with one a line; None for none.
        labels: The labels that must be among them.

    Raises:
        UserError: The file cannot be read, or there are fewer names than labels.
    """
    if classes is None:
        return ()
    if isinstance(classes, str | Path):
        try:
            lines = Path(classes).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"classes: cannot read {classes} ({reason}); give a text file with a name a line"
            ) from error
        classes = [line.strip() for line in lines if line.strip()]
    highest = -1 if labels is None else int(labels.max(initial=-1))
    if highest >= len(classes):
        raise UserError(f"classes has {len(classes)} names, but there is a label {highest}")
    return tuple(classes)
