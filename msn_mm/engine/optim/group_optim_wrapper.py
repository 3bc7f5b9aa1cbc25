"""Optimizer wrappers that know the groups of :mod:`msn_mm.engine.optim.decay_groups`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import Tensor, nn
from torch.optim import Adagrad, Adam

from msn_mm.engine.deferred_scalars import log_scalars
from msn_mm.engine.optim.clipping import clip_each_norm_
from msn_mm.engine.optim.finite_guard import FiniteGuard
from msn_mm.errors import UserError
from msn_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class GroupOptimWrapper(OptimWrapper):
    """``OptimWrapper`` that knows groups marked ``clip=False`` and can skip a step.

    The released MSN clips the encoder's gradients and not the prototypes'. The
    norm stays on the device until the log is written.

    With a ``guard`` (:class:`msn_mm.engine.hooks.NonFiniteStepsHook` gives one)
    a step whose loss or gradients are not finite leaves weights, moments and
    batch-norm statistics bitwise as they were. On a CUDA device this asks
    nothing of the host: torch's fused Adam, AdamW and Adagrad and our LARS take the
    flag as it is. Other optimizers wait for it there.

    Args:
        clip_grad: As MMEngine's, or ``dict(type="each", max_norm=...)``, which clips the
            gradient of each parameter by itself.
    """

    guard: FiniteGuard | None = None

    def __init__(self, *args: Any, clip_grad: dict | None = None, **kwargs: Any) -> None:
        each = (clip_grad or {}).get("type") == "each"
        if each:
            clip_grad = {**(clip_grad or {}), "type": "norm"}
        super().__init__(*args, clip_grad=clip_grad, **kwargs)
        if each:
            self.clip_func = clip_each_norm_

    @property
    def skipped(self) -> Tensor | None:
        """Whether the last step was skipped, a scalar bool; ``None`` without a guard."""
        return None if self.guard is None else self.guard.skipped

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter MMEngine's context, and show the guard what the forward pass moves and finds."""
        guard = self.guard
        if guard is not None and self._inner_count % self._accumulative_counts == 0:
            guard.begin(model)
        with super().optim_context(model):
            yield
        if guard is not None:
            guard.watch(getattr(getattr(model, "module", model), "magnitudes", {}).items())

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run the backward pass."""
        if self.guard is not None:
            self.guard.watch([("the loss", loss)])
        super().backward(loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip and step, or leave everything as it was before the forward pass."""
        if self.guard is None:
            super().step(**kwargs)
            return
        skip = self.guard.judge()
        if self._host_decides(skip):
            if bool(skip):
                self.guard.undo()
            else:
                super().step(**kwargs)
            return
        self.optimizer.grad_scale, self.optimizer.found_inf = None, skip.float()
        try:
            super().step(**kwargs)
        finally:
            del self.optimizer.grad_scale, self.optimizer.found_inf
        self.guard.undo(skip)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what the same groups of parameters had.

        Raises:
            UserError: If the state has other groups, or groups of other sizes.
        """
        _check_groups(state_dict.get("param_groups", []), self.optimizer.param_groups)
        super().load_state_dict(state_dict)

    def _host_decides(self, skip: Tensor) -> bool:
        # Not SGD on the device: where its first step is skipped, its momentum
        # stays uninitialised memory.
        kinds = (Adam, Adagrad)  # AdamW is an Adam
        fused = isinstance(self.optimizer, kinds) and self.optimizer.defaults.get("fused")
        takes_flag = fused or getattr(self.optimizer, "takes_found_inf", False)
        return skip.device.type == "cpu" or not takes_flag

    def _clip_grad(self) -> None:
        parameters: list[Tensor] = [
            parameter
            for group in self.optimizer.param_groups
            if group.get("clip", True)
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not parameters:
            return
        norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        if norm is not None:
            log_scalars(self.message_hub, {f"train/{self.grad_name}": norm})


def _check_groups(saved: list[Mapping[str, Any]], own: list[Mapping[str, Any]]) -> None:
    before, now = (
        {
            str(group.get("name", number)): len(group["params"])
            for number, group in enumerate(groups)
        }
        for groups in (saved, own)
    )
    if list(before.items()) == list(now.items()):
        return
    odd = next((name for name in before if before[name] != now.get(name)), None)
    told = f"{len(before)} groups of parameters and this run {len(now)}"
    if odd is not None:
        here = f"{now[odd]} here" if odd in now else "which is not here"
        told += f"; '{odd}' has {before[odd]} parameters there, {here}"
    raise UserError(
        f"the checkpoint's optimizer has {told}: resume with the model and optim_wrapper that it "
        "was trained with, or start from its weights with --load-from"
    )


@OPTIM_WRAPPERS.register_module()
class AmpGroupOptimWrapper(GroupOptimWrapper):
    """Mixed precision in bfloat16, on a GPU and on a CPU.

    bfloat16 has float32's range, so it needs no loss scaling, and MMEngine's
    ``AmpOptimWrapper`` refuses a CPU. The loss itself runs in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
