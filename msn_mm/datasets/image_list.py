"""The paths of many images, as one run of bytes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImageList(Sequence[dict[str, Any]]):
    """Images by path and label, in the place of MMEngine's list of dicts.

    The n paths lie end to end in one array, with where each one ends in another: a
    million paths are two objects and not a million. A forked data worker shares them
    with the main process, because nothing is counted or written in a page of theirs;
    a spawned one too, because torch hands tensors to other processes by shared memory.

    Args:
        root: What every path begins with, separator included.
        below: ``(bytes,)`` uint8, the rest of the paths as the file system spells them.
        ends: ``(n,)`` int64, where in ``below`` each path ends.
        labels: ``(n,)`` int64, or ``None``.
    """

    def __init__(self, root: str, below: Tensor, ends: Tensor, labels: Tensor | None) -> None:
        self.root = root
        self.below, self.ends, self.labels = below, ends, labels

    @classmethod
    def packed(cls, root: str, paths: Iterable[bytes]) -> ImageList:
        """Pack paths below ``root``, as bytes; they are never all there as objects."""
        below, ends = bytearray(), array("q")
        for path in paths:
            below += path
            ends.append(len(below))
        # Tensors of their own: torch knows no empty buffer, and moves what it shares.
        return cls(
            root,
            torch.from_numpy(np.frombuffer(below, dtype=np.uint8).copy()),
            torch.from_numpy(np.frombuffer(ends, dtype=np.int64).copy()),
            None,
        )

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, index: int) -> str:
        """Return the path of one image, ``0 <= index < n``."""
        # Seen as arrays anew each time: a tensor that is handed on moves to shared memory.
        below, ends = self.below.numpy(), self.ends.numpy()
        begin = ends[index - 1] if index else 0
        return self.root + os.fsdecode(below[begin : ends[index]].tobytes())

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> ImageList: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | ImageList:
        """Return ``img_path``, and ``gt_label`` where there are labels; or part of the list."""
        if isinstance(index, slice):
            return self.chosen(np.arange(len(self))[index])
        place = range(len(self))[index]
        info: dict[str, Any] = {"img_path": self.path(place)}
        if self.labels is not None:
            info["gt_label"] = int(self.labels[place])
        return info

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def chosen(self, indices: NDArray[np.int64]) -> ImageList:
        """Return the list of these images alone, in this order."""
        ends = self.ends.numpy()
        begins = np.concatenate([[0], ends[:-1]])
        whole = self.below.numpy().tobytes()
        spans = zip(begins[indices].tolist(), ends[indices].tolist(), strict=True)
        part = self.packed(self.root, (whole[begin:end] for begin, end in spans))
        if self.labels is not None:
            part.labels = self.labels[torch.from_numpy(np.asarray(indices))]
        return part

    def first_folders(self) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return the folders right below ``root`` by their first image, and whose each image is.

        Returns:
            k names, ``b""`` for images that lie in no folder; ``(n,)``, numbers below k.
        """
        whole = self.below.numpy().tobytes()
        separator = os.sep.encode()
        numbers: dict[bytes, int] = {}
        folder_of = np.empty(len(self), dtype=np.int64)
        begin = 0
        for i, end in enumerate(self.ends.tolist()):
            cut = whole.find(separator, begin, end)
            name = whole[begin:cut] if cut >= 0 else b""
            folder_of[i] = numbers.setdefault(name, len(numbers))
            begin = end
        return list(numbers), folder_of
