"""MMEngine's runner for a model whose weights lie in shards over the processes."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from msn_mm.engine.fsdp.shards import accept_whole_moments, gather
from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.engine.step_runner import StepRunner


class ShardedRunner(StepRunner):
    """A runner whose checkpoints hold whole tensors though no process does.

    MMEngine's runner saves in the first process alone; here all processes have
    to take part, so every process must call :meth:`save_checkpoint`, as
    MMEngine's checkpoint hook does.
    """

    _whole_state: dict[str, Any] | None = None

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Initialise the weights while they are whole, then wrap."""
        initialise = getattr(model, "init_weights", None)
        if callable(initialise):
            initialise()
        wrapped = super().wrap_model(model_wrapper_cfg, model)
        assert isinstance(wrapped, FullyShardedModel)
        return wrapped

    def _init_model_weights(self) -> None:
        """Leave the weights: they were initialised, and made alike on all ranks, before."""

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper | OptimWrapperDict:
        """Build as MMEngine does, and teach clipping and loading to know shards."""
        built = super().build_optim_wrapper(optim_wrapper)
        if built is optim_wrapper:
            return built
        for wrapper in built.values() if isinstance(built, OptimWrapperDict) else [built]:
            accept_whole_moments(wrapper.optimizer)
            if getattr(wrapper, "clip_func", None) is torch.nn.utils.clip_grad_norm_:
                wrapper.clip_func = _clip_grad_norm
        return built

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = "default",
    ) -> None:
        """Resume as MMEngine does, but read to the host: no device could hold it all."""
        location = "cpu" if map_location == "default" else map_location
        super().resume(filename, resume_optimizer, resume_param_scheduler, location)

    def save_checkpoint(self, *args: Any, save_optimizer: bool = True, **kwargs: Any) -> None:
        """Gather the shards on the first process and save there. Collective."""
        module: nn.Module = self.model.module
        whole = {"state_dict": gather(module.state_dict())}
        if save_optimizer:
            whole["optimizer"] = gather(self.optim_wrapper.state_dict())
        self._whole_state = whole if self.rank == 0 else None
        try:
            super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
        finally:
            self._whole_state = None

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; those of a save find whole tensors in the place of shards."""
        if fn_name == "before_save_checkpoint" and self._whole_state is not None:
            kwargs["checkpoint"].update(self._whole_state)
        super().call_hook(fn_name, **kwargs)


def _clip_grad_norm(parameters: list[Tensor], max_norm: float, **kwargs: Any) -> Tensor:
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm, **kwargs)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
