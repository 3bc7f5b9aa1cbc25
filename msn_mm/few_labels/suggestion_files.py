"""Suggestions as a CSV to fill in, and the care that labels typed into it are not lost."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from msn_mm.errors import UserError
from msn_mm.few_labels.labels import LABEL, PATH, read_rows
from msn_mm.few_labels.suggesting import Suggestions
from msn_mm.utils.results import write_atomically

COLUMNS = (PATH, LABEL, "rank", "reason")


def table(found: Suggestions) -> list[tuple[str, str, str, str]]:
    """Return the rows below :data:`COLUMNS`: suggestions by rank, then what has a label.

    A file name that a spreadsheet would compute, or cut the blanks of, begins with
    ``./``, which leads to the same file.
    """
    rows = [
        (_as_path(name), "", str(rank), reason)
        for rank, (name, reason) in enumerate(zip(found.names, found.reasons, strict=True), 1)
    ]
    rows += [(_as_path(name), label, "", "labelled before") for name, label in found.labelled]
    return rows


def write_csv(path: Path, found: Suggestions) -> None:
    """Write :func:`table`, whole or not at all.

    A mark at the beginning tells spreadsheets that the text is UTF-8.
    """
    text = io.StringIO()
    # A name may hold either end of a line: the writer quotes what ends its own.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(table(found))
    write_atomically(path, text.getvalue().encode("utf-8-sig"))


def check_no_labels_lost(path: Path, labels: str | None) -> None:
    """Refuse to write over labels that someone has typed in, but for those that were given.

    Args:
        path: The CSV to be written.
        labels: What the user gave as labels, if anything.

    Raises:
        UserError: It holds labels, or something else than suggestions.
    """
    if not path.exists() or (labels is not None and Path(labels).expanduser().samefile(path)):
        return
    filled = sum(bool(label) for _, _, label in read_rows(path))
    if filled:
        raise UserError(
            f"{path} holds {filled} labels that would be lost; give --labels {path}, or another "
            "--out"
        )


def _as_path(name: str) -> str:
    is_plain = name[0].isalnum() or name[0] in "._/"
    return name if is_plain else f"./{name}"
