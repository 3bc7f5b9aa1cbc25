"""The centres of a method's targets move with the optimizer's steps."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from msn_mm.errors import UserError
from msn_mm.registry import HOOKS


def check_centring(runner: Runner) -> None:
    """Refuse to train a model that has centres without a hook that moves them.

    Raises:
        UserError: If they would stay at 0: the loss looks as ever, and nothing is centred.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    centres = model.centres() if hasattr(model, "centres") else []
    if centres and not any(isinstance(hook, CentringHook) for hook in runner.hooks):
        raise UserError(
            f"{type(model).__name__} centres its targets, and no CentringHook moves the centre: "
            "add dict(type='CentringHook') to custom_hooks"
        )


@HOOKS.register_module()
class CentringHook(Hook):
    """Move every centre of the model after every real optimizer step.

    The model names them by ``centres()``, a list of
    :class:`~msn_mm.models.losses.centre.Centre`. Under gradient accumulation a centre
    moves once, by the mean over the parts; a step that was skipped moves none.

    Raises:
        UserError: Before training, if the model has no ``centres``.
    """

    # As EMAHook: after the optimizer step, before hooks that log, validate or save.
    priority = "ABOVE_NORMAL"

    def before_train(self, runner: Runner) -> None:
        """Look for the centres."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, "centres"):
            raise UserError(
                f"CentringHook needs a model with centres(); {type(model).__name__} has none: "
                "remove the hook from custom_hooks"
            )
        self._centres = model.centres()
        for centre in self._centres:
            centre.forget()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the centres, if a step was taken."""
        if runner.optim_wrapper.should_update():
            skip = getattr(runner.optim_wrapper, "skipped", None)
            for centre in self._centres:
                centre.step(skip)
