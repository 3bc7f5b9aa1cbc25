"""Whether an optimizer step may be taken, decided on the device and alike on all ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from msn_mm.engine.host_copy import LAG, HostCopy
from msn_mm.models.ops.distributed import world_size
from msn_mm.models.ops.finite import magnitudes


class Verdict(NamedTuple):
    """What is known of one optimizer step."""

    in_a_row: int = 0
    """Steps without a finite result up to this one, this one included; 0 if it was taken."""
    total: int = 0
    """All skipped steps so far."""
    culprit: str = ""
    """The quantity that first was not finite when the present row of skipped steps began."""


class FiniteGuard:
    """Look at the loss and every gradient of a step, and undo what the forward pass moved.

    Looked at, in the order in which they are computed: what the model put into
    its attribute ``magnitudes`` (name -> scalar), the loss, and the gradient
    of each parameter, the last layer's first. One flag for each goes over all
    ranks, so all decide alike, sharded gradients too. On a CUDA device the
    host reads the answer some steps later and waits for nothing; on a CPU at once.

    Batch norm moves its running statistics in the forward pass, when nobody
    knows yet whether the step will be taken: :meth:`begin` keeps a copy and
    :meth:`undo` brings it back.
    """

    def __init__(self) -> None:
        self.skipped: Tensor | None = None
        """Scalar bool on the device: the last step was to be skipped."""
        self._names: list[str] = []
        self._parameters: list[Tensor] = []
        self._statistics: list[tuple[Tensor, Tensor]] = []
        self._forward: dict[str, Tensor] = {}
        self._state: Tensor | None = None
        self._since = Verdict()
        self._pending: deque[tuple[HostCopy, list[str]]] = deque()

    def go_on_from(self, verdict: Verdict) -> None:
        """Take ``verdict`` for that on the last step, as a resumed run does; forget all others."""
        self._since = verdict
        self._state = None
        self._pending.clear()

    def begin(self, model: nn.Module) -> None:
        """Remember the batch-norm statistics; to be called before the forward pass of a step."""
        if not self._names:
            named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
            # Backward order: the first gradient to be computed is the last layer's.
            self._names = [name.removeprefix("module.") for name, _ in reversed(named)]
            self._parameters = [parameter for _, parameter in reversed(named)]
        self._forward = {}
        self._statistics = [
            (buffer, buffer.clone())
            for module in model.modules()
            if isinstance(module, _NormBase) and module.training
            for buffer in module.buffers(recurse=False)
        ]

    def watch(self, named: Iterable[tuple[str, Tensor]]) -> None:
        """Take note of scalars of a forward pass; several passes of one step add up."""
        for name, value in named:
            value = value.detach()
            self._forward[name] = self._forward[name] + value if name in self._forward else value

    @torch.no_grad()
    def judge(self) -> Tensor:
        """Return whether the step is to be skipped: a scalar bool on the device, as ``skipped``."""
        zero = next(iter(self._forward.values())).new_zeros(())
        present = [p.grad for p in self._parameters if p.grad is not None]
        norms = iter(magnitudes(present) if present else [])
        gradients = [zero if p.grad is None else next(norms) for p in self._parameters]
        values = [value.reshape(()) for value in (*self._forward.values(), *gradients)]
        bad = torch.stack(values).isfinite().logical_not_().float()
        if world_size() > 1:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        if self._state is None:
            # The culprit of a row that began before is the last of the names.
            first = (self._since.in_a_row, self._since.total, -1)
            self._state = torch.tensor(first, dtype=torch.int64, device=bad.device)
        in_a_row, total, culprit = self._state.unbind()
        skip = bad.any()
        culprit = torch.where(skip & (in_a_row == 0), bad.argmax(), culprit)
        self._state = torch.stack([(in_a_row + 1) * skip, total + skip, culprit])
        self._remember(self._state)
        self.skipped = skip
        return skip

    @torch.no_grad()
    def undo(self, skip: Tensor | None = None) -> None:
        """Bring the statistics of :meth:`begin` back, where ``skip`` is true (default: always)."""
        for buffer, before in self._statistics:
            buffer.copy_(before if skip is None else torch.where(skip, before, buffer))

    def read(self, wait: bool = False) -> Verdict | None:
        """Return the verdict on the oldest step not yet read, or ``None`` while it is too fresh.

        All ranks get the same verdict at the same step.

        Args:
            wait: Wait for the device rather than leave a fresh verdict for later.
        """
        if not self._pending:
            return None
        state, names = self._pending[0]
        if state.on_its_way and not wait and len(self._pending) <= LAG:
            return None
        self._pending.popleft()
        return _verdict(state.read(), names)

    def unread(self) -> list[Verdict]:
        """Return the verdicts that :meth:`read` has yet to give; waits for the device."""
        return [_verdict(state.read(), names) for state, names in self._pending]

    def _remember(self, state: Tensor) -> None:
        gradients = (f"the gradient of {name}" for name in self._names)
        names = [*self._forward, *gradients, self._since.culprit]
        self._pending.append((HostCopy(state), names))


def _verdict(state: Tensor, names: list[str]) -> Verdict:
    in_a_row, total, culprit = state.tolist()
    return Verdict(in_a_row, total, names[culprit])
