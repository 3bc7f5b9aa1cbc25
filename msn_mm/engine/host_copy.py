"""A tensor's copy on its way to the host, for which the training does not wait."""

from __future__ import annotations

import torch
from torch import Tensor

# Steps after which a GPU's answer has long been copied to the host.
LAG = 4


class HostCopy:
    """The value that a tensor has now, to be read on the host later.

    From a CUDA device it is copied behind the work that is queued there, into
    memory from which the device can copy by itself. On a CPU it is there at once;
    from any other device too, by waiting.

    Args:
        tensor: Not to be changed in place before it is read.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host, self._copied = _start(tensor.detach())

    @property
    def on_its_way(self) -> bool:
        """Whether :meth:`read` may have to wait."""
        return self._copied is not None

    def read(self) -> Tensor:
        """Return the value, on the host; wait for it if need be."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host


def _start(tensor: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if tensor.device.type != "cuda":
        return tensor.cpu(), None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied
