"""A classifier and its data must speak of the same classes."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from msn_mm.errors import UserError
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compare the classes of training and validation data with those of the model or its head.

    Data that name no classes are not looked at.

    Raises:
        UserError: Before training or testing, if the numbers differ, or the classes
            of training and validation do.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Check the data of training, and of the validation in between."""
        ours = self._check(runner, runner.train_loop.dataloader, "training")
        if runner.val_loop is None:
            return
        theirs = self._check(runner, runner.val_loop.dataloader, "validation")
        if ours and theirs and ours != theirs:
            odd = sorted(set(ours) ^ set(theirs))
            what = f"for example '{odd[0]}'" if odd else "in different orders"
            raise UserError(f"training and validation data have different classes, {what}")

    def before_test(self, runner: Runner) -> None:
        """Check the data of a test."""
        self._check(runner, runner.test_loop.dataloader, "test")

    def _check(self, runner: Runner, loader: Any, part: str) -> tuple[str, ...] | None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, "head", None)
        expected = getattr(model, "num_classes", None) or getattr(head, "num_classes", None)
        classes = getattr(loader.dataset, "metainfo", {}).get("classes")
        if classes is None:
            return None
        if expected is not None and len(classes) != expected:
            raise UserError(
                f"the {part} data have {len(classes)} classes and the classifier {expected}: set "
                f"num_classes={len(classes)}, or give the data that it is for"
            )
        return tuple(classes)
