"""Images in Parquet files, as the Hugging Face hub exports its data sets."""

from __future__ import annotations

import logging
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from msn_mm.datasets.file_patterns import local_files
from msn_mm.datasets.tables.columns import arrow, field_of
from msn_mm.datasets.tables.table_images import TableImages
from msn_mm.datasets.windows import Windows
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS

# What the row groups of a window may take in each data worker, in bytes.
_MEMORY = 256 * 2**20
_SPLIT = re.compile(r"^(.+)-\d{5}-of-\d{5}\.parquet$")


@DATASETS.register_module()
class ParquetImages(TableImages):
    """Every row of Parquet files with a column of encoded images.

    Parquet is read by row groups (``datasets`` writes 100 images to one): to get one
    image its whole group is read. Training therefore shows the groups in a random
    order, ``window`` of them mixed at a time, see
    :class:`~msn_mm.datasets.windows.Windows`, and each data worker keeps the
    groups of a window in memory.

    Args:
        data_root: A folder (its ``*.parquet``, however deep), a file, a pattern such as
            ``data/train-*.parquet``, or a list of these.
        image: The column of images: ``struct`` of ``bytes`` and ``path``, or binary. None
            for ``image``, else the only such column.
        labels: ``none``, or the column of labels. Names of a ``ClassLabel`` are
            the classes; words are names of ``classes``, or without these
            classes of their own, sorted.
        classes: Names of the classes by label, or a text file with one a line.
        window: Row groups that are mixed; None for as many as take 256 MiB.
        indices: The first so many images, or these.

    Raises:
        UserError: pyarrow is not installed; there are no files, or a folder holds several splits;
            a file cannot be read, or lacks a column or a label.
        ValueError: If ``window`` is below 1.
    """

    def __init__(
        self,
        data_root: str | Path | Sequence[str | Path],
        image: str | None = None,
        labels: str = "none",
        classes: str | Path | Sequence[str] | None = None,
        window: int | None = None,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        if window is not None and window < 1:
            raise ValueError(f"ParquetImages: window must be 1 or more, got {window}")
        arrow()
        self._rows_of_groups: list[int] = []
        self._bytes_of_groups: list[int] = []
        self._groups_of_files: list[int] = []
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._process = os.getpid()
        super().__init__(data_root, _files(data_root), image, labels, classes, indices)
        self.group_ends = np.cumsum(self._rows_of_groups)
        self.first_groups = np.cumsum([0, *self._groups_of_files])
        self.window = window or self._affordable()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_groups": OrderedDict()}

    @property
    def windows(self) -> Windows:
        """The row groups."""
        return Windows(np.searchsorted(self.group_ends, self.rows, side="right"), self.window)

    def _affordable(self) -> int:
        """Return how many of the largest row groups take the memory that a worker may use."""
        largest = max(self._bytes_of_groups)
        if largest > _MEMORY:
            print_log(
                f"row groups of {self.files[0]} take up to {largest / 2**20:.0f} MiB in each data "
                "worker and images are mixed within one only: write the file anew with "
                "row_group_size=100",
                "current",
                logging.WARNING,
            )
        return max(1, _MEMORY // max(1, largest))

    def _schema(self, number: int) -> Any:
        return arrow().parquet.read_schema(self.files[number])

    def _columns(self, number: int, names: list[str]) -> tuple[int, dict[str, Any]]:
        with arrow().parquet.ParquetFile(self.files[number]) as file:
            about = file.metadata
            groups = [about.row_group(k) for k in range(about.num_row_groups)]
            self._groups_of_files.append(len(groups))
            self._rows_of_groups += [group.num_rows for group in groups]
            self._bytes_of_groups += [self._image_bytes(group) for group in groups]
            table = file.read(columns=names, use_threads=False)
        return about.num_rows, {name: field_of(table, name) for name in names}

    def _image_bytes(self, group: Any) -> int:
        leaves = [group.column(k) for k in range(group.num_columns)]
        own = f"{self.column}.bytes" if self.is_struct else self.column
        return sum(leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema == own)

    def _cell(self, number: int, row: int) -> Any:
        whole = row + (int(self.ends[number - 1]) if number else 0)
        group = int(np.searchsorted(self.group_ends, whole, side="right"))
        first = int(self.group_ends[group - 1]) if group else 0
        return self._group(number, group)[whole - first]

    def _group(self, number: int, group: int) -> Any:
        if self._process != os.getpid():
            self._groups, self._process = OrderedDict(), os.getpid()
        column = self._groups.pop(group, None)
        if column is None:
            while len(self._groups) >= self.window:
                self._groups.popitem(last=False)
            self.check(number)
            name = f"{self.column}.bytes" if self.is_struct else self.column
            # Threads of pyarrow's do not live on in a forked worker.
            with arrow().parquet.ParquetFile(self.files[number]) as file:
                inner = group - int(self.first_groups[number])
                table = file.read_row_group(inner, columns=[name], use_threads=False)
            column = table.column(0)
        self._groups[group] = column
        return column


def _files(data_root: str | Path | Sequence[str | Path]) -> list[str]:
    given = [data_root] if isinstance(data_root, str | Path) else list(data_root)
    found: list[str] = []
    for entry in given:
        files = local_files(str(entry), ".parquet", "Parquet file")
        splits = {m[1] for m in (_SPLIT.match(Path(file).name) for file in files) if m is not None}
        if len(splits) > 1 and Path(entry).expanduser().is_dir():
            raise UserError(
                f"{entry} holds several splits ({', '.join(sorted(splits))}); name one, for "
                f"example data_root='{entry}/{min(splits)}-*.parquet'"
            )
        found += files
    if not found:
        raise UserError("no Parquet file was named; set data_root to a folder or a pattern")
    return list(dict.fromkeys(found))
