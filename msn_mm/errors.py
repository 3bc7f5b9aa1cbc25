"""What a user can mend, told apart from bugs.

A tool turns a :class:`UserError` into one line on standard error and exit
status 2 (see :mod:`msn_mm.utils.cli`); every other exception is a bug and
keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave: one line that names the thing and the mend.

    It is a ``ValueError`` so that library users can catch it without importing
    this module. torch raises an exception of a data worker again with the
    worker's traceback for a message; only the sentence is kept of that.

    Attributes:
        status: with which a tool that ends by it leaves.
    """

    status = 2

    def __init__(self, message: str) -> None:
        if message.startswith("Caught UserError in DataLoader worker"):
            message = message.rpartition(f"{__name__}.UserError: ")[2].strip()
        super().__init__(message)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest candidate, or an empty string."""
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
