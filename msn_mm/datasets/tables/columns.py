"""Which columns of a table are the images and the labels, and what the labels mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.datasets.packed_images import numbered
from msn_mm.errors import UserError, did_you_mean


def arrow() -> ModuleType:
    """Return pyarrow, with its readers of Parquet.

    Raises:
        UserError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet and Arrow files need pyarrow: pip install 'msn_mm[parquet]'"
        ) from error
    return pyarrow


def image_column(file: str, schema: Any, wanted: str | None) -> str:
    """Return the column that holds encoded images.

    That is a ``struct`` of ``bytes`` and ``path``, as ``datasets`` stores images, or
    binary. Without a name the column ``image``, else the only one of that kind.

    Args:
        file: What the table is called in messages.
        schema: Its Arrow schema.
        wanted: The column's name; None to find it.

    Raises:
        UserError: There is no such column, or it holds no images, or several do.
    """
    if wanted is not None:
        _check_there(file, schema, wanted, "image")
    candidates = [field.name for field in schema if _is_image(field.type)]
    name = wanted or ("image" if "image" in schema.names else None)
    if name is not None and name not in candidates:
        raise UserError(
            f"{file}: column '{name}' is {schema.field(name).type}, which holds no image files; "
            f"columns that do: {', '.join(candidates) or 'none'}"
        )
    if name is None and len(candidates) != 1:
        found = ", ".join(f"'{column}'" for column in candidates)
        raise UserError(
            f"{file}: several columns may be the images ({found}); name one by image="
            if candidates
            else f"{file}: no column holds image files (binary, or bytes and path); columns: "
            f"{', '.join(schema.names)}"
        )
    return name or candidates[0]


def has_struct(schema: Any, column: str) -> bool:
    """Whether a column of images is bytes and path, not bytes alone."""
    return bool(arrow().types.is_struct(schema.field(column).type))


def field_of(table: Any, name: str) -> Any:
    """Return a column of an Arrow table, or ``column.field`` of it, as a ``ChunkedArray``."""
    if name in table.column_names:
        return table.column(name)
    outer, _, inner = name.rpartition(".")
    column = table.column(outer)
    parts = [chunk.field(inner) for chunk in column.chunks]
    return arrow().chunked_array(parts, column.type.field(inner).type)


def check_label_column(file: str, schema: Any, column: str) -> None:
    """Refuse a column that can hold no labels.

    Raises:
        UserError: It is missing, or holds neither whole numbers nor words.
    """
    _check_there(file, schema, column, "label")
    kind, types = schema.field(column).type, arrow().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise UserError(f"{file}: column '{column}' is {kind}; labels are whole numbers or words")


def class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Return the names that ``datasets`` keeps of a ``ClassLabel``; none where it keeps none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[column]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def label_numbers(
    files: list[str],
    columns: Iterable[Any],
    name: str,
    classes: str | Path | Sequence[str] | None,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels of all files, and the names of their classes where these are known.

    Args:
        files: What the tables are called in messages.
        columns: Of each the column of labels, an Arrow ``ChunkedArray``.
        name: The column's name.
        classes: As for :func:`~msn_mm.datasets.packed_images.numbered`.

    Raises:
        UserError: A row has no label (null, or -1 as the hub's test splits have), or one that
            ``classes`` does not name.
    """
    values: list[Any] = []
    for file, column in zip(files, columns, strict=True):
        found = column.to_pylist()
        for row, value in enumerate(found):
            if value is None or (isinstance(value, int) and value < 0):
                raise UserError(
                    f"{file}: row {row} has no label in '{name}' ({value}); leave such rows out, "
                    "or set labels='none'"
                )
        values += found
    return numbered([str(value) for value in values], classes)


def _check_there(file: str, schema: Any, column: str, what: str) -> None:
    if column not in schema.names:
        raise UserError(
            f"{file} has no column '{column}' ({what}).{did_you_mean(column, schema.names)} "
            f"Columns: {', '.join(schema.names)}"
        )


def _is_image(kind: Any) -> bool:
    types = arrow().types
    if types.is_struct(kind):
        names = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return "bytes" in names and _is_image(names["bytes"])
    return bool(types.is_binary(kind) or types.is_large_binary(kind))
