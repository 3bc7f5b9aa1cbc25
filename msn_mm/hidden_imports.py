"""Optional libraries that others import at their own import, kept for when they are used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Let ``import`` of these raise ImportError within, as if they were not installed.

    For a library that looks for an optional companion when it is imported itself. One
    that is loaded already costs nothing and stays seen.

    Args:
        *names: Names of top-level packages.
    """
    hiding = [name for name in names if name not in sys.modules]
    # None is how sys.modules says that there is no such module.
    sys.modules.update(dict.fromkeys(hiding))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hiding:
            del sys.modules[name]
