"""Layers that stay as they began for the first epochs."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from msn_mm.engine.epochs import epoch_of
from msn_mm.errors import UserError
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class FrozenLayerHook(Hook):
    """Keep the parameters of a module as they are for the first epochs.

    Their gradients are dropped right before the optimizer's step, so the optimizer
    passes over them: no weight decay, no momentum, and moments that begin with the
    first step they take. The backward pass is that of any other step, which is what
    ``DistributedDataParallel``, sharding and accumulation want. Source: Caron et al.
    2021, arXiv 2104.14294, appendix C, which freezes the last layer for one epoch.

    Args:
        module: Name of the module in the model.
        epochs: Number of epochs.

    Raises:
        ValueError: If ``epochs`` is negative.
        UserError: Before training, if the model has no such module with parameters.
    """

    def __init__(self, module: str = "head.last_layer", epochs: int = 1) -> None:
        if epochs < 0:
            raise ValueError(f"FrozenLayerHook's epochs is {epochs}; it must not be negative")
        self.module = module
        self.epochs = epochs
        self._frozen = False
        self._handle: Any = None

    def before_train(self, runner: Runner) -> None:
        """Find the parameters, and see every step of the optimizer before it is taken."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        found: nn.Module = dict(model.named_modules()).get(self.module, nn.Module())
        parameters = list(found.parameters())
        if not parameters:
            raise UserError(
                f"FrozenLayerHook names the module '{self.module}', which "
                f"{type(model).__name__} does not have: set the hook's module or remove it"
            )

        def drop(*_: Any) -> None:
            if self._frozen:
                for parameter in parameters:
                    parameter.grad = None

        self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(drop)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember whether this epoch is one of the first."""
        self._frozen = epoch_of(runner) < self.epochs

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer as it was."""
        self._handle.remove()
