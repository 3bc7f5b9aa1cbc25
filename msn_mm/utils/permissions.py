"""The rights of a new file, for files that were made private while they were written."""

from __future__ import annotations

import os
from pathlib import Path


def give_usual_rights(path: Path) -> None:
    """Give a file the rights that the user's umask gives to any new one."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
