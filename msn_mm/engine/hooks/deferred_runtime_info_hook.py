"""MMEngine's hook that logs the losses, without a wait for the device at every step."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner

from msn_mm.engine.deferred_scalars import log_scalars
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """``RuntimeInfoHook`` whose losses stay on the device until somebody reads them.

    MMEngine's reads each of a step's losses there and then, so the host cannot
    prepare the next step while the device computes this one. Here every reader
    finds the same values at the same steps; see
    :mod:`msn_mm.engine.deferred_scalars`.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Log a step's losses and statistics."""
        if outputs is not None:
            log_scalars(
                runner.message_hub, {f"train/{name}": value for name, value in outputs.items()}
            )
