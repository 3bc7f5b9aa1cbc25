"""Label splits as text files, one image name a line.

The format of the released ImageNet subsets (``n01440764_10026.JPEG`` on a
line). A name is a path below the data set's root, or its last parts alone as
long as one image of the data set ends with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msn_mm.errors import UserError
from msn_mm.evaluation.splits import Splits, class_label
from msn_mm.utils.results import write_atomically


def save_splits(
    directory: str | Path,
    splits: Splits,
    names: Sequence[str],
    earlier: Iterable[str | Path] = (),
) -> list[Path]:
    """Write each split as a file that :func:`splits_from_files` reads back.

    The files are ``<column>_<number>.txt``, numbers from 0 and padded to two
    digits or more so that their alphabetic order is that of the splits, a
    space in the column written as ``-``. Images are named by their base names
    when these are unique in the support set, else by their whole names, in the
    order of the indices.

    Reading the files of a column of n images a class gives back the same
    column. A fraction such as ``1%`` becomes the number of images that it is:
    a list of names does not tell what it was a fraction of.

    Args:
        directory: Where to; made if missing.
        splits: Indices into the support set.
        names: Name of each image of the support set.
        earlier: Files that an earlier call wrote into a directory of this name. Those of
            the same columns that are not written again are removed; no other file is.

    Returns:
        The paths, in the order of columns and splits.

    Raises:
        UserError: A name has a line break and so cannot be a line.
    """
    bases = [_base(name) for name in names]
    written = bases if len(set(bases)) == len(bases) else names
    contents: dict[Path, bytes] = {}
    for column, subsets in splits.items():
        digits = max(2, len(str(len(subsets) - 1)))
        for number, subset in enumerate(subsets):
            path = Path(directory) / f"{_stem(column)}_{number:0{digits}d}.txt"
            contents[path] = "".join(_line(written[index]) for index in subset).encode()
    for path, content in contents.items():
        write_atomically(path, content)
    # Those of an earlier call would be taken for more splits of their column.
    # By name: the paths are those that the earlier call saw from where it ran.
    folder = Path(directory).resolve().name
    listed = {path.name for path in map(Path, earlier) if path.parent.name == folder}
    for column in splits:
        for old in set(Path(directory).glob(f"{_stem(column)}_*.txt")) - set(contents):
            if old.name in listed:
                old.unlink(missing_ok=True)
    return list(contents)


def listed_splits(out: Path) -> list[str]:
    """Return the split files that an earlier call wrote below ``out``, by its ``results.json``."""
    try:
        settings = json.loads((out / "results.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    files = settings.get("split_files") or []
    if settings.get("subset_files"):
        return []  # the user's own
    return [one for part in files.values() for one in part] if isinstance(files, dict) else files


def splits_from_files(
    files: Sequence[str | Path],
    names: Sequence[str],
    labels: NDArray[Any],
    class_names: Sequence[str] | None = None,
) -> Splits:
    """Read label splits, one file a split.

    Empty lines, spaces at the ends of a line and Windows line ends do not
    matter. Files with n images of every class make column ``"n"``, others
    column ``"<m> images"`` of their m images in all. Columns are ordered by
    their number of images, splits within a column as their files were given.

    Args:
        files: The files.
        names: Name of each image of the support set, unique.
        labels: ``(n,)`` integer labels of the same images.
        class_names: Names for error messages, indexed by label.

    Returns:
        Ascending indices into ``names`` for each file, by column.

    Raises:
        UserError: A file is missing, empty, not text or given twice, or two
            name the same images; or a line
            names no image of the data set, several, or one that an earlier
            line has named; or a class of the data set has no image in a file.
        ValueError: ``names`` and ``labels`` differ in length, or no files.
    """
    splits: dict[str, list[NDArray[np.int64]]] = {}
    for _, column, subset in read_split_files(files, names, labels, class_names):
        splits.setdefault(column, []).append(subset)
    return splits


def read_split_files(
    files: Sequence[str | Path],
    names: Sequence[str],
    labels: NDArray[Any],
    class_names: Sequence[str] | None = None,
) -> list[tuple[Path, str, NDArray[np.int64]]]:
    """Return each file with its column and its indices, in the order of :func:`splits_from_files`.

    Arguments and errors are the same.
    """
    labels = np.asarray(labels)
    if len(files) == 0:
        raise ValueError("there must be at least one split file")
    if labels.shape != (len(names),):
        raise ValueError(f"{len(names)} names and labels of {labels.shape} do not fit")
    classes, targets = np.unique(labels, return_inverse=True)
    seen: set[Path] = set()
    images: dict[Path, NDArray[np.int64]] = {}
    listed: list[tuple[Path, list[tuple[int, str]]]] = []
    for file in map(Path, files):
        if file.resolve() in seen:
            raise UserError(f"the split file {file} was given twice; name each file once")
        seen.add(file.resolve())
        listed.append((file, _lines(file)))
    finder = _Finder(names, (line for _, lines in listed for _, line in lines))
    found = []
    for file, lines in listed:
        subset = _indices(file, lines, finder)
        counts = np.bincount(targets[subset], minlength=len(classes))
        if not counts.all():
            missing = class_label(int(classes[np.argmin(counts)]), class_names)
            raise UserError(
                f"{file} names no image of class {missing}; add one, or evaluate on a data set "
                "without that class"
            )
        column = str(counts[0]) if counts.min() == counts.max() else f"{len(subset)} images"
        twin = next((other for other, one in images.items() if np.array_equal(one, subset)), None)
        if twin is not None:
            raise UserError(
                f"{file} and {twin} name the same images, which would count one split twice; "
                "leave one of them out"
            )
        images[file] = subset
        found.append((file, column, subset))
    return sorted(found, key=lambda item: (len(item[2]), item[1]))


class _Finder:
    """Finds images by their names or the last parts of these.

    Only images that a line may mean are kept: an index of all would cost
    seconds with a million images.
    """

    def __init__(self, names: Sequence[str], lines: Iterable[str]) -> None:
        self.names = names
        wanted = set(lines)
        self._whole: dict[str, int] = {}
        self._by_base: dict[str, list[int]] = {_base(line): [] for line in wanted}
        for index, name in enumerate(names):
            if name in wanted:
                self._whole[name] = index
            members = self._by_base.get(_base(name))
            if members is not None:
                members.append(index)

    def __call__(self, line: str) -> list[int]:
        """Return the indices of the images that one of the lines may mean."""
        if line in self._whole:
            return [self._whole[line]]
        ending = f"/{line}"
        return [i for i in self._by_base[_base(line)] if self.names[i].endswith(ending)]


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers."""
    try:
        # a text editor of Windows may put a byte order mark in front
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"the split file {file} does not exist; check its path") from error
    except OSError as error:
        raise UserError(
            f"the split file {file} cannot be read ({error.strerror}); it must be a text file "
            "with one image name a line"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"the split file {file} is not text; it needs one image name a line"
        ) from error
    stripped = enumerate((line.strip() for line in text.split("\n")), start=1)
    lines = [(number, line) for number, line in stripped if line]
    if not lines:
        raise UserError(f"the split file {file} is empty; it needs one image name a line")
    return lines


def _indices(file: Path, lines: list[tuple[int, str]], finder: _Finder) -> NDArray[np.int64]:
    """The ascending indices of the images that the lines of a file name."""
    first: dict[int, int] = {}
    for number, line in lines:
        where, name = f"{file}, line {number}", _quoted(line)
        candidates = finder(line)
        if not candidates:
            raise UserError(
                f"{where}: {name} is not in the data set, whose images have names such as "
                f"'{finder.names[0]}'; mend the line or choose the data set that it is from"
            )
        if len(candidates) > 1:
            one, two = (finder.names[index] for index in candidates[:2])
            raise UserError(
                f"{where}: {name} may be '{one}' or '{two}'; write the path with its folder"
            )
        index = candidates[0]
        if index in first:
            raise UserError(
                f"{where}: {name} is named a second time, first in line {first[index]}; remove "
                "one of the two"
            )
        first[index] = number
    return np.sort(np.fromiter(first, dtype=np.int64, count=len(first)))


def _stem(column: str) -> str:
    return column.replace(" ", "-")


def _line(name: str) -> str:
    if not name.isascii() and any("\udc80" <= letter <= "\udcff" for letter in name):
        raise UserError(
            f"the image name {name!r} is not UTF-8 and cannot be a line of a split file; rename "
            "the image"
        )
    if "\n" in name or "\r" in name or name != name.strip():
        raise UserError(
            f"the image name {name!r} cannot be a line of a split file; rename the image without "
            "line breaks or spaces at its ends"
        )
    return f"{name}\n"


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _quoted(line: str) -> str:
    shown = line if len(line) <= 100 else f"{line[:97]}..."
    return f"'{shown}'" if shown.isprintable() else repr(shown)
