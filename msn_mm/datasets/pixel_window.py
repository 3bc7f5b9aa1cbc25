"""From the values of a file to the 8 bits that travel to the device: a window of them.

A sensor's 12 or 16 bits are seldom all in use, and a step of 1/256 of their whole range
can be wider than all that an image shows. The window says which range becomes 0 to
255; the name is the radiologists'. What is lost is what lies outside, and differences
below 1/255 of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[tuple[float, float], ...]
"""The range of each channel, or one of all, in the values of the file."""

MAX_CHANNELS = 512
"""OpenCV's, which shrinks large images."""


def as_window(value: Any, channels: int) -> Window | None:
    """Return a config's window; ``None`` for none.

    Args:
        value: ``(low, high)``, or such a pair for each channel, or ``None``.
        channels: C.

    Raises:
        ValueError: It is no window of as many channels.
    """
    if value is None:
        return None
    try:
        pairs = [value] if len(value) == 2 and np.ndim(value[0]) == 0 else list(value)
        window = tuple((float(low), float(high)) for low, high in pairs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"window must be (low, high), or that a channel, got {value}") from error
    if len(window) not in (1, channels) or not all(
        -np.inf < low < high < np.inf for low, high in window
    ):
        raise ValueError(
            f"window must be low < high, one for all or for each of {channels} channels: {value}"
        )
    return window


def window_setting(window: Window | None) -> dict[str, list[list[float]]]:
    """Return the argument that builds a window, for results and a cache's key; {} for none."""
    return {} if window is None else {"window": [list(pair) for pair in window]}


def to_bytes(values: NDArray[Any], window: Window | None) -> NDArray[np.uint8]:
    """Map values to 0-255 and round to the nearest, halves up; what lies outside is clipped.

    Args:
        values: uint8 or uint16 (H, W, C).
        window: The range that is mapped; ``None`` for all that the type holds.

    Returns:
        uint8 (H, W, C); ``values`` itself where nothing is to be done.
    """
    if window is None and values.dtype == np.uint8:
        return values
    full = ((0.0, float(np.iinfo(values.dtype).max)),)
    tables = [_table(values.dtype, *pair) for pair in window or full]
    if len(tables) == 1:
        return tables[0][values]
    out = np.empty(values.shape, dtype=np.uint8)
    for channel, table in enumerate(tables):
        out[..., channel] = table[values[..., channel]]
    return out


def table_of(dtype: Any, pair: Sequence[float] | None) -> NDArray[np.uint8]:
    """Return what :func:`to_bytes` makes of every value of a type, (256,) or (65536,)."""
    low, high = (0.0, float(np.iinfo(dtype).max)) if pair is None else pair
    return _table(np.dtype(dtype), float(low), float(high))


@lru_cache(maxsize=64)
def _table(dtype: np.dtype[Any], low: float, high: float) -> NDArray[np.uint8]:
    values = np.arange(np.iinfo(dtype).max + 1, dtype=np.float64)
    return np.floor((values - low) * (255 / (high - low)) + 0.5).clip(0, 255).astype(np.uint8)
