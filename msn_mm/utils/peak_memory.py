"""The most bytes of tensors that are alive at once while a block of code runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory:
    """Context manager: ``with PeakMemory(device) as memory: step()``, then ``memory.bytes``.

    On a GPU it reads the allocator's own peak. A CPU has none, and the resident memory
    of a process depends on what the allocator keeps: there the storages of all tensors
    that an operation takes or gives are counted until they are freed, which is the
    same number on any machine. What an operation needs within itself is left out, and
    so is a backward pass in other threads.

    Args:
        device: Where the block computes.
        held: Tensors that lie in memory already; on a GPU all of them count in any case.

    Attributes:
        bytes: The peak so far.
    """

    def __init__(self, device: torch.device, held: Iterable[Tensor] = ()) -> None:
        self._device = device
        self._mode = None if device.type == "cuda" else _LiveStorages(held)

    @property
    def bytes(self) -> int:
        if self._mode is not None:
            return self._mode.peak
        return torch.cuda.max_memory_allocated(self._device)

    def __enter__(self) -> PeakMemory:
        if self._mode is not None:
            self._mode.__enter__()
        else:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._mode is not None:
            self._mode.__exit__(kind, error, trace)


class _LiveStorages(TorchDispatchMode):
    """Counts the bytes of storages that are alive."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        # Keyed by address, which is free for another storage once this one is gone.
        self._seen: dict[int, weakref.ref[Any]] = {}
        for tensor in held:
            self._note(tensor)
        self.peak = self.live

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        self.peak = max(self.peak, self.live)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if size and key not in self._seen:
            self.live += size
            self._seen[key] = weakref.ref(storage, self._forget(key, size))

    def _forget(self, key: int, size: int) -> Callable[[Any], None]:
        def gone(_: Any) -> None:
            self.live -= size
            self._seen.pop(key, None)

        return gone
