"""The temperature of the targets over the first epochs."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from msn_mm.engine.epochs import epoch_of
from msn_mm.errors import UserError
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class TargetTemperatureHook(Hook):
    """Raise a temperature of the model's loss linearly over the first epochs.

    ``start`` in the first epoch, ``end`` from epoch number ``epochs`` (counted from
    1) on. A function of the epoch, so a resumed run goes on exactly. Source: Caron et
    al. 2021, arXiv 2104.14294, section 4 and appendix C.

    Args:
        start: Temperature of the first epoch.
        end: Temperature after the warm-up.
        epochs: Epochs of the warm-up; 0 for none.
        name: Attribute of the model's ``loss_module`` to set.

    Raises:
        ValueError: For temperatures that are not positive or a negative length.
        UserError: Before training, if the loss has no such temperature, or the targets
            would not be sharper than the predictions.
    """

    # Before the forward pass, where order does not matter otherwise.
    priority = "NORMAL"

    def __init__(
        self,
        start: float = 0.04,
        end: float = 0.07,
        epochs: int = 30,
        name: str = "target_temperature",
    ) -> None:
        if start <= 0 or end <= 0 or epochs < 0:
            raise ValueError(
                f"TargetTemperatureHook: start {start} and end {end} must be positive and epochs "
                f"{epochs} not negative"
            )
        self.start, self.end, self.epochs, self.name = start, end, epochs, name

    def at(self, epoch: int) -> float:
        """Return the temperature of an epoch, counted from 0."""
        if epoch >= self.epochs - 1:
            return self.end if self.epochs != 1 or epoch > 0 else self.start
        return self.start + (self.end - self.start) * epoch / (self.epochs - 1)

    def before_train(self, runner: Runner) -> None:
        """Find the loss, and compare both ends with its other temperature."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._loss: Any = getattr(model, "loss_module", None)
        if not hasattr(self._loss, self.name):
            raise UserError(
                f"TargetTemperatureHook sets {self.name}, which the loss of "
                f"{type(model).__name__} does not have: remove the hook from custom_hooks or set "
                "its name"
            )
        temperature = getattr(self._loss, "temperature", None)
        for value in (self.at(0), self.end):
            if temperature is not None and value >= temperature:
                raise UserError(
                    f"TargetTemperatureHook sets {self.name} to {value}, and the predictions' "
                    f"temperature is {temperature}: targets must be the sharper ones; lower the "
                    "hook's start or end, or raise model.loss.temperature"
                )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the temperature of this epoch."""
        value = self.at(epoch_of(runner))
        setattr(self._loss, self.name, value)
        runner.message_hub.update_scalar(f"train/{self.name}", value)
