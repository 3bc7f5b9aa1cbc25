"""Images in Arrow files, as ``datasets.save_to_disk`` leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msn_mm.datasets.file_patterns import local_files
from msn_mm.datasets.tables.columns import arrow, field_of
from msn_mm.datasets.tables.table_images import TableImages
from msn_mm.errors import UserError
from msn_mm.registry import DATASETS


@DATASETS.register_module()
class ArrowImages(TableImages):
    """Every row of Arrow files with a column of encoded images.

    The files are mapped into memory, not read: any image is there in any order,
    and data workers share what the system keeps of the files.

    Args:
        data_root: A folder of ``save_to_disk`` (one split of it), any other folder (its
            ``*.arrow``, however deep), a file, a pattern, or a list of these.
        image: As :class:`~msn_mm.datasets.ParquetImages`.
        labels: Likewise.
        classes: Likewise.
        indices: The first so many images, or these.

    Raises:
        UserError: pyarrow is not installed; there are no files, or a folder holds several splits;
            a file cannot be read, or lacks a column or a label.
    """

    def __init__(
        self,
        data_root: str | Path | Sequence[str | Path],
        image: str | None = None,
        labels: str = "none",
        classes: str | Path | Sequence[str] | None = None,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        arrow()
        self._tables: dict[int, Any] = {}
        super().__init__(data_root, _files(data_root), image, labels, classes, indices)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tables": {}}

    @property
    def windows(self) -> None:
        """Any order will do."""
        return None

    def _table(self, number: int) -> Any:
        if number not in self._tables:
            pa = arrow()
            self.check(number)
            mapped = pa.memory_map(self.files[number])
            try:
                # datasets writes streams; Arrow's other format, and Feather, are files.
                reader = pa.ipc.open_stream(mapped)
            except pa.ArrowInvalid:
                mapped.seek(0)
                reader = pa.ipc.open_file(mapped)
            self._tables[number] = reader.read_all()
        return self._tables[number]

    def _schema(self, number: int) -> Any:
        return self._table(number).schema

    def _columns(self, number: int, names: list[str]) -> tuple[int, dict[str, Any]]:
        table = self._table(number)
        return table.num_rows, {name: field_of(table, name) for name in names}

    def _cell(self, number: int, row: int) -> Any:
        return self._table(number).column(self.column)[row]


def _files(data_root: str | Path | Sequence[str | Path]) -> list[str]:
    given = [data_root] if isinstance(data_root, str | Path) else list(data_root)
    found: list[str] = []
    for entry in given:
        folder = Path(entry).expanduser()
        if (folder / "dataset_dict.json").is_file():
            splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
            raise UserError(
                f"{entry} holds several splits ({', '.join(splits)}); name one, for example "
                f"data_root='{entry}/{splits[0] if splits else 'train'}'"
            )
        state = folder / "state.json"
        found += (
            _listed(state) if state.is_file() else local_files(str(entry), ".arrow", "Arrow file")
        )
    if not found:
        raise UserError("no Arrow file was named; set data_root to a folder or a pattern")
    return list(dict.fromkeys(found))


def _listed(state: Path) -> list[str]:
    """Return the files of a ``save_to_disk``; others in its folder are caches of its own."""
    try:
        content = json.loads(state.read_bytes())
        return [str(state.parent / one["filename"]) for one in content["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{state} cannot be read ({error}); save the data set anew") from error
