"""Images in the rows of tables, whatever files the tables are."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from msn_mm.datasets.decode import UnreadableImageError, printable
from msn_mm.datasets.packed_images import PackedImages, named_classes
from msn_mm.datasets.tables.columns import (
    arrow,
    check_label_column,
    class_names,
    has_struct,
    image_column,
    label_numbers,
)
from msn_mm.errors import UserError


class TableImages(PackedImages):
    """Every row of several tables, in the order of the files and their rows.

    An image is called by its file and its ``path`` there, by its row where there is none.

    Args:
        data_root: What the user gave.
        files: The tables.
        image: The column of images; None to find it, see
            :func:`~msn_mm.datasets.tables.columns.image_column`.
        labels: ``none``, or the column of labels, whole numbers or words.
        classes: Names of the classes by label, or a text file with one a line; None
            for those that the tables name, or the words, sorted.
        indices: The first so many images, or these.

    Raises:
        UserError: pyarrow is not installed; a table cannot be read, or lacks a column, or
            a label, or has one that ``classes`` does not name.
    """

    LABELS = "name the column that holds them: labels='label'"

    def __init__(
        self,
        data_root: str | Path | Sequence[str | Path],
        files: list[str],
        image: str | None,
        labels: str,
        classes: str | Path | Sequence[str] | None,
        indices: int | Sequence[int] | None,
    ) -> None:
        label = None if labels == "none" else labels
        self.files = files
        self.status = [_status(file) for file in files]
        self.paths: list[Any] = []
        columns, counts = [], []
        named: tuple[str, ...] = ()
        for number, file in enumerate(files):
            with _reading(file):
                schema = self._schema(number)
                column = image_column(file, schema, image)
                if number == 0:
                    self.column, self.is_struct = column, has_struct(schema, column)
                elif (column, has_struct(schema, column)) != (self.column, self.is_struct):
                    raise UserError(f"{file} has its images in another form than {files[0]}")
                wanted = [f"{column}.path"] if self._has_paths(schema) else []
                if label is not None:
                    check_label_column(file, schema, label)
                    named = named or class_names(schema, label)
                    wanted.append(label)
                count, found = self._columns(number, wanted)
            counts.append(count)
            self.paths.append(found.get(f"{column}.path"))
            columns.append(found.get(label) if label is not None else None)
        numbers, names = None, named_classes(classes, None)
        if label is not None:
            numbers, names = label_numbers(files, columns, label, classes)
        self.ends = np.cumsum(counts)
        if not self.ends[-1]:
            raise UserError(f"no image in {files[0]}{' ...' if files[1:] else ''}: no rows")
        given = [data_root] if isinstance(data_root, str | Path) else list(data_root)
        root = ", ".join(str(Path(one).expanduser()) for one in given)
        super().__init__(root, int(self.ends[-1]), numbers, names or named, indices)

    @abstractmethod
    def _schema(self, number: int) -> Any:
        """Return the Arrow schema of a file."""

    @abstractmethod
    def _columns(self, number: int, names: list[str]) -> tuple[int, dict[str, Any]]:
        """Return the number of rows of a file, and some of its columns, dots for fields."""

    @abstractmethod
    def _cell(self, number: int, row: int) -> Any:
        """Return a file's row of the column of images, an Arrow scalar."""

    def name(self, row: int) -> str:
        """Return the file, and below it the image's own name or its row."""
        number, inner = self._place(row)
        paths = self.paths[number]
        path = None if paths is None else paths[inner].as_py()
        own = printable(path.replace("\\", "/").rpartition("/")[2]) if path else str(inner)
        return f"{self.files[number]}/{own}"

    def read(self, row: int) -> bytes:
        """Return an encoded image."""
        number, inner = self._place(row)
        with _reading(self.files[number]):
            cell = self._cell(number, inner).as_py()
        content = cell["bytes"] if self.is_struct and cell is not None else cell
        if content is None:
            raise UnreadableImageError(
                self.name(row), f"row {inner} holds no bytes (export it with its image files)"
            )
        return content

    def mark(self, row: int) -> str:
        """Return the file with its size and time of change, and the row in it."""
        number, inner = self._place(row)
        size, modified = self.status[number]
        return f"{os.path.realpath(self.files[number])}\0{size}\0{modified}\0{inner}"

    def check(self, number: int) -> None:
        """Compare a file with what it was when the data set was made.

        Raises:
            UserError: It is another.
        """
        if _status(self.files[number]) != self.status[number]:
            raise UserError(f"{self.files[number]} has changed since it was opened; start again")

    def _place(self, row: int) -> tuple[int, int]:
        number = int(np.searchsorted(self.ends, row, side="right"))
        return number, row - (int(self.ends[number - 1]) if number else 0)

    def _has_paths(self, schema: Any) -> bool:
        kind = schema.field(self.column).type
        if not self.is_struct or kind.get_field_index("path") < 0:
            return False
        path, types = kind.field("path").type, arrow().types
        return bool(types.is_string(path) or types.is_large_string(path))


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """Turn what pyarrow and the system say of a file into one line."""
    try:
        yield
    except (OSError, arrow().ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {file}: {reason}; export or copy it anew") from error


def _status(file: str) -> tuple[int, int]:
    try:
        status = os.stat(file)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns
