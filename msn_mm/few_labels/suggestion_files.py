"""Suggestions as a CSV to fill in, and the care that labels typed into it are not lost."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msn_mm.errors import UserError
from msn_mm.few_labels.labels import LABEL, PATH, LabelRow, read_rows
from msn_mm.few_labels.suggesting import Suggestions
from msn_mm.utils.paths import user_path
from msn_mm.utils.results import write_atomically

REASON = "reason"
COLUMNS = (PATH, LABEL, "rank", REASON)
_BEFORE, _NO_LABEL = "labelled before", "no label yet"


@dataclass(frozen=True)
class Kept:
    """What a CSV of labels holds that the new one must hold too.

    Attributes:
        columns: Names of the columns of the user's own, in their order.
        rows: Path as typed, label, and a value a column, of every row with a
            label or a value of the user's own.
        is_replaced: Whether the new CSV takes its place.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    is_replaced: bool = False


def read_kept(labels: str | None, written: Path) -> Kept | None:
    """Return what a CSV of labels holds; ``None`` where labels come from a folder or nowhere.

    Args:
        labels: What the user gave as labels, if anything.
        written: The CSV to be written.

    Raises:
        UserError: As :func:`~msn_mm.few_labels.labels.read_rows`.
    """
    if labels is None or not (path := user_path(labels, "LABELS")).is_file():
        return None
    rows = [(row.path, row.label, _of_the_user(row)) for row in read_rows(path)]
    # Every row has all columns; some have more values than there are names.
    names = max((tuple(name for name, _ in own) for *_, own in rows), key=len, default=())
    kept = [
        (path, label, (*(value for _, value in own), *[""] * (len(names) - len(own))))
        for path, label, own in rows
        if label or any(value for _, value in own)
    ]
    return Kept(names, tuple(kept), written.exists() and path.samefile(written))


def columns(kept: Kept | None) -> tuple[str, ...]:
    """Return the names of the columns of :func:`table`: :data:`COLUMNS`, then the user's own."""
    return COLUMNS if kept is None else (*COLUMNS, *kept.columns)


def table(found: Suggestions, kept: Kept | None = None) -> list[tuple[str, ...]]:
    """Return the rows below :func:`columns`: suggestions by rank, then what was there before.

    A file name that a spreadsheet would compute, or cut the blanks of, begins with
    ``./``, which leads to the same file.

    Args:
        found: The suggestions.
        kept: Rows of the CSV that the labels come from. Each with a label is
            there again, copies of an image too. One without lends its values to the
            suggestion of its image; where there is none it stays in a CSV that is
            replaced.
    """
    if kept is None:
        kept = Kept((), tuple((name, label, ()) for name, label in found.labelled))
    suggested = set(map(os.path.normpath, found.names))
    noted: dict[str, tuple[str, ...]] = {}
    before: list[tuple[str, ...]] = []
    for path, label, own in kept.rows:
        place = os.path.relpath(os.path.join(found.folder, path), found.folder)
        if not label and place in suggested and place not in noted:
            noted[place] = own
        elif label or kept.is_replaced:
            before.append((_as_path(path), label, "", _BEFORE if label else _NO_LABEL, *own))
    nothing = ("",) * len(kept.columns)
    rows = [
        (_as_path(name), "", str(rank), reason, *noted.get(os.path.normpath(name), nothing))
        for rank, (name, reason) in enumerate(zip(found.names, found.reasons, strict=True), 1)
    ]
    return rows + before


def write_csv(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table, whole or not at all.

    A mark at the beginning tells spreadsheets that the text is UTF-8.

    Args:
        path: The file.
        names: Of the columns.
        rows: A value a column.
    """
    text = io.StringIO()
    # A name may hold either end of a line: the writer quotes what ends its own.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode("utf-8-sig"))


def check_no_labels_lost(path: Path, labels: str | None) -> None:
    """Refuse to write over what someone has typed in, but for labels that were given.

    Args:
        path: The CSV to be written.
        labels: What the user gave as labels, if anything.

    Raises:
        UserError: It holds labels or columns of the user's, or something else than suggestions.
    """
    if not path.exists() or (labels is not None and Path(labels).expanduser().samefile(path)):
        return
    kept = read_kept(str(path), path)
    if kept is not None and kept.rows:
        filled = sum(bool(label) for _, label, _ in kept.rows)
        what = f"{filled} labels" if filled else f"notes in {len(kept.rows)} rows"
        raise UserError(
            f"{path} holds {what} that would be lost; give --labels {path}, or another --out"
        )


def _of_the_user(row: LabelRow) -> tuple[tuple[str, str], ...]:
    """Return a row's values but for the rank and the reason of an earlier suggestion."""
    ours = {*COLUMNS}
    found = []
    for name, value in row.others:
        if name in ours:
            ours.remove(name)  # a second one of the name is not ours
        else:
            found.append((name, value))
    return tuple(found)


def _as_path(name: str) -> str:
    is_plain = not name or name[0].isalnum() or name[0] in "._/"
    return name if is_plain else f"./{name}"
