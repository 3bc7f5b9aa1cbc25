"""Optimizer wrappers that know the groups of :mod:`msn_mm.engine.optim.decay_groups`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from msn_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class GroupOptimWrapper(OptimWrapper):
    """``OptimWrapper`` that leaves groups marked ``clip=False`` out of gradient clipping.

    The released MSN clips the encoder's gradients and not the prototypes'. The
    norm is kept as a tensor until the logger asks, so clipping costs no host
    synchronisation.
    """

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
            self.message_hub.update_scalar(f"train/{self.grad_name}", norm)


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
