"""Scalars for the log that stay on the device until somebody reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

from msn_mm.engine.host_copy import LAG, HostCopy

# Values that wait together: a history is copied whole each time it grows.
_WAITING = 32


class DeferredHistory(HistoryBuffer):
    """MMEngine's history of a scalar, whose newest values may still be on the device.

    Whoever reads it (a log line, a checkpoint, any other hook) waits for them and
    finds all. While nobody does, they are fetched some steps later.
    Its copies, pickled ones too, are plain histories.
    """

    _log_history: np.ndarray
    _count_history: np.ndarray

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._waiting: deque[tuple[HostCopy, int]] = deque()
        super().__init__(*args, **kwargs)

    def update_later(self, copy: HostCopy, place: int) -> None:
        """Add one value, the number ``place`` of a vector that is on its way."""
        self._waiting.append((copy, place))
        if len(self._waiting) >= _WAITING or not copy.on_its_way:
            self.settle(keep=LAG if copy.on_its_way else 0)

    def settle(self, keep: int = 0) -> None:
        """Fetch what is waiting, but for the newest ``keep`` values."""
        values = []
        while len(self._waiting) > keep:
            copy, place = self._waiting.popleft()
            values.append(float(copy.read()[place]))
        if values:
            history, counts = self.__dict__["_log_history"], self.__dict__["_count_history"]
            ones = [1] * len(values)
            self.__dict__["_log_history"] = np.append(history, values)[-self.max_length :]
            self.__dict__["_count_history"] = np.append(counts, ones)[-self.max_length :]

    def __reduce__(self) -> tuple[Any, ...]:
        values, counts = self.data
        kept = slice(-self.max_length, None)
        return HistoryBuffer, (values[kept].copy(), counts[kept].copy(), self.max_length)


def _settled(name: str) -> property:
    def read(self: DeferredHistory) -> np.ndarray:
        self.settle()
        return self.__dict__[name]

    def write(self: DeferredHistory, value: np.ndarray) -> None:
        self.__dict__[name] = value

    return property(read, write)


# MMEngine's methods read these two, each of them at any time.
for _name in ("_log_history", "_count_history"):
    setattr(DeferredHistory, _name, _settled(_name))


def log_scalars(hub: MessageHub, scalars: Mapping[str, Any]) -> None:
    """Add a value to each named history of a message hub, as ``update_scalar`` does.

    Tensors on a device are copied together and the host does not wait for them.

    Args:
        hub: The runner's.
        scalars: Numbers, or tensors of one value; those on a device floating-point.
    """
    later = {}
    for name, value in scalars.items():
        if isinstance(value, Tensor) and _is_away(value):
            later[name] = value.detach().reshape(())
        else:
            hub.update_scalar(name, value)
    if not later:
        return
    double = any(value.dtype == torch.float64 for value in later.values())
    dtype = torch.float64 if double else torch.float32
    copy = HostCopy(torch.stack([value.to(dtype) for value in later.values()]))
    for place, name in enumerate(later):
        _history(hub, name).update_later(copy, place)


def _is_away(value: Tensor) -> bool:
    return value.device.type != "cpu"


def _history(hub: MessageHub, name: str) -> DeferredHistory:
    before = hub.log_scalars.get(name)
    if isinstance(before, DeferredHistory):
        return before
    if before is None:
        history = DeferredHistory()
        hub._set_resumed_keys(name, True)
    else:  # the history of a resumed run
        history = DeferredHistory(*before.data, max_length=before.max_length)
    hub.log_scalars[name] = history
    return history
