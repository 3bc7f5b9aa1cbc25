"""Which files a folder, a path or a pattern names."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from msn_mm.errors import UserError


def local_files(text: str, ending: str, what: str) -> list[str]:
    """Return the files that a folder, a path or a pattern names, sorted.

    Args:
        text: A folder (all files of the ending, however deep, hidden ones left out), a
            file, or a pattern with ``*``, ``?`` or ``[]``.
        ending: ``.tar``, ``.parquet`` ...
        what: What such a file is called in messages.

    Raises:
        UserError: There is no such file.
    """
    path = Path(re.sub(r"^file:(//)?", "", text, flags=re.IGNORECASE)).expanduser()
    if path.is_dir():
        below = sorted(str(file) for file in path.rglob(f"*{ending}") if not _hidden(file, path))
        if not below:
            raise UserError(f"no {what} under {path}; looked in all its folders for *{ending}")
        return below
    if path.is_file():
        return [str(path)]
    matches = sorted(glob.glob(str(path), recursive=True))
    if not matches:
        raise UserError(f"no {what} {path}; set data_root to a folder, files or a pattern")
    return matches


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
