"""A path as a user types it, looked at without a traceback; nothing heavy is imported."""

from __future__ import annotations

import errno
from pathlib import Path

from msn_mm.errors import UserError

_LONGEST = 60


def user_path(name: str | Path, what: str) -> Path:
    """Expand a path and look whether it can be one; it need not exist.

    Args:
        name: What the user gave; ``~`` and ``~user`` are expanded.
        what: What it names, for the error.

    Raises:
        UserError: It is empty or too long, names a user that there is none of, or
            lies where nobody may look.
    """
    text = str(name)
    if not text.strip():
        raise UserError(f"{what} got an empty name; give a path")
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    try:
        path = Path(name).expanduser()
        path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise UserError(f"{what}: cannot look at {shown!r}: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # no such user; a zero byte
        raise UserError(f"{what}: {shown!r} is no path: {error}") from error
    return path
