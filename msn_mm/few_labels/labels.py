"""Labelled images as a user names them: a CSV of paths and labels, or a folder a class."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msn_mm.errors import UserError
from msn_mm.utils.paths import user_path

PATH, LABEL = "path", "label"


@dataclass(frozen=True)
class Labels:
    """n labelled images of at least two classes.

    Attributes:
        names: What the user calls each image: the CSV's path, or the path below the folder.
        paths: Where the files lie.
        labels: Number of each image's class.
        classes: Names of the classes, sorted.
        notes: What was passed over, one sentence each.
    """

    names: list[str]
    paths: list[str]
    labels: list[int]
    classes: tuple[str, ...]
    notes: list[str]


def check_labels(source: str, root: str | None = None) -> None:
    """Refuse labels that cannot be read, without a look at the images.

    Args:
        source: A CSV file, or a folder with one folder a class.
        root: Where the CSV's relative paths begin.

    Raises:
        UserError: Naming the mend.
    """
    path = user_path(source, "LABELS")
    if root is not None and not user_path(root, "--images").is_dir():
        raise UserError(f"--images: '{root}' is no directory; give the one that the paths start in")
    if path.is_dir():
        if root is not None:
            raise UserError(f"--images belongs to a CSV; '{source}' is a folder of images itself")
        return
    if not path.is_file():
        raise UserError(f"no such labels: '{source}'; give a CSV with the columns path,label")
    next(read_rows(path), None)


def read_labels(source: str | Path, root: str | Path | None = None) -> Labels:
    """Read labelled images.

    A CSV has a line with the names of its columns, ``path`` and ``label`` among
    them. Rows without a label are passed over, and so is a file that is there
    twice with one label: held out beside its copy it would measure memory.

    Args:
        source: The CSV (UTF-8, commas), or a folder with one folder a class.
        root: Where relative paths of the CSV begin; default: the CSV's folder.

    Raises:
        UserError: There are none, a file is missing, an image has two labels,
            or all have the same.
    """
    notes: list[str] = []
    kept = read_labelled(source, root, notes)
    classes = tuple(sorted({label for _, _, label in kept}))
    if not kept:
        raise UserError(f"'{source}' has no labelled image; fill the column label of some rows")
    if len(classes) < 2:
        raise UserError(
            f"all {len(kept)} labelled images of '{source}' are '{classes[0]}'; a classifier needs "
            "at least 2 classes"
        )
    number = {name: k for k, name in enumerate(classes)}
    return Labels(
        names=[name for name, _, _ in kept],
        paths=[str(file) for _, file, _ in kept],
        labels=[number[label] for _, _, label in kept],
        classes=classes,
        notes=notes,
    )


Given = tuple[str, Path, str]
"""What the user calls an image, its file, its label."""


def read_labelled(
    source: str | Path, root: str | Path | None, notes: list[str], starts_in: str = "--images"
) -> list[Given]:
    """Read labelled images, however few; arguments and errors as :func:`read_labels`.

    Args:
        source: The CSV or the folder.
        root: Where relative paths of the CSV begin.
        notes: Is told what was passed over.
        starts_in: What names ``root`` on the command line.
    """
    path = user_path(source, "LABELS")
    if path.is_dir():
        given = _of_folder(path)
    else:
        check_labels(str(source), None if root is None else str(root))
        place = path.parent if root is None else Path(root).expanduser()
        given = _of_csv(path, place, notes, starts_in)
    return _once_each(given, notes)


def _of_folder(folder: Path) -> list[Given]:
    from msn_mm.datasets import ImageFolder

    data = ImageFolder(folder, "folder")
    classes = data.metainfo["classes"]
    found = []
    for i in range(len(data)):
        info = data.get_data_info(i)
        file = Path(info["img_path"])
        found.append((file.relative_to(folder).as_posix(), file, classes[info["gt_label"]]))
    return found


def _of_csv(path: Path, root: Path, notes: list[str], starts_in: str) -> list[Given]:
    found, empty = [], 0
    for line, name, label, _ in read_rows(path):
        if not label:
            empty += 1
            continue
        if not name:
            raise UserError(f"{path}, line {line}: a label '{label}' without a path")
        file = root / name
        if not os.path.isfile(file):  # of a name that is too long too
            raise UserError(
                f"{path}, line {line}: no image '{file}'; correct the path, or give {starts_in}, "
                "the directory that paths start in"
            )
        found.append((name, file, label))
    if empty:
        notes.append(f"{empty} rows of {path.name} have no label and are passed over")
    return found


class LabelRow(NamedTuple):
    """A row of a CSV of labels.

    Attributes:
        line: Where it ends in the file.
        path: As typed, without the blanks around it.
        label: Likewise; empty where there is none.
        others: Name and value of every other column, as they are. Values beyond
            the last name have an empty one.
    """

    line: int
    path: str
    label: str
    others: tuple[tuple[str, str], ...]


def read_rows(path: Path) -> Iterator[LabelRow]:
    """Yield each row of a CSV of labels.

    Raises:
        UserError: It cannot be read, or lacks a column or has it twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            if not {PATH, LABEL} <= set(columns):
                shown = ", ".join(columns)[:80] or "nothing"
                raise UserError(
                    f"{path} must begin with the line '{PATH},{LABEL}'; it begins with '{shown}'"
                )
            for name in (PATH, LABEL):
                if columns.count(name) > 1:
                    raise UserError(
                        f"{path} has {columns.count(name)} columns '{name}'; keep one, or rename "
                        "the others"
                    )
            own = columns.index(PATH), columns.index(LABEL)
            for row in reader:
                if not row:  # an empty line
                    continue
                names = columns + [""] * (len(row) - len(columns))
                values = row + [""] * (len(columns) - len(row))
                cells = list(zip(names, values, strict=True))
                others = tuple(cell for k, cell in enumerate(cells) if k not in own)
                name, label = (values[k].strip() for k in own)
                yield LabelRow(reader.line_num, name, label, others)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8; save it as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _once_each(given: list[Given], notes: list[str]) -> list[Given]:
    """Return each image's first row; its content tells the same image by another name."""
    first: dict[bytes, Given] = {}
    for name, file, label in given:
        try:
            content = hashlib.sha256(file.read_bytes()).digest()
        except OSError as error:
            raise UserError(f"cannot read image {file}: {error.strerror}") from error
        known = first.setdefault(content, (name, file, label))
        if known[2] != label:
            raise UserError(
                f"'{known[0]}' is labelled '{known[2]}' and '{name}', the same image, "
                f"'{label}'; keep one of the two"
            )
    if len(first) < len(given):
        copies = len(given) - len(first)
        notes.append(f"{copies} copies of labelled images, the same file content, are not counted")
    return list(first.values())
