"""NumPy numbers out of a pickle, without NumPy's own unpickling.

Training scripts save the loss or the best accuracy as a NumPy scalar. NumPy
rebuilds one by ``numpy.dtype``, that type's ``__setstate__`` and
``numpy.core.multiarray.scalar``, which take flags and raw bytes from the file on
trust. The stand-ins here take those names' places and know plain numbers only.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

_NUMBERS = frozenset(np.dtype(code).str[1:] for code in "?bBhHiIlLqQefd")


class PlainDtype:
    """Stands for ``numpy.dtype`` of a number in a pickle; built and changed by nothing else.

    Args:
        code: Kind and bytes such as ``f8``.
        *_: What else a pickle gives; without meaning for a number.

    Raises:
        ValueError: The type is not a number's.
    """

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:
            raise ValueError(f"a NumPy type {str(code)[:20]!r} that is no number's")
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order, the one thing of a number's type that the code does not tell."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "="):
            self.order = state[1]


def plain_scalar(dtype: PlainDtype, raw: bytes) -> Any:
    """Return the number that a pickled NumPy scalar means.

    Raises:
        ValueError: It is something else than one number.
    """
    if not isinstance(dtype, PlainDtype) or not isinstance(raw, bytes):
        raise ValueError("a NumPy scalar that is no number")
    kind = np.dtype(dtype.order + dtype.code)
    if len(raw) != kind.itemsize:
        raise ValueError(f"a NumPy number of {kind.itemsize} bytes with {len(raw)}")
    return np.frombuffer(raw, kind)[0]


# What public checkpoints hold beside tensors, for torch's safe_globals: the
# options of a training script and NumPy's numbers. None can call anything.
SAFE_GLOBALS: list[Any] = [
    argparse.Namespace,
    (PlainDtype, "numpy.dtype"),
    # NumPy 1 and 2 keep one function under two names.
    (plain_scalar, "numpy.core.multiarray.scalar"),
    (plain_scalar, "numpy._core.multiarray.scalar"),
]
