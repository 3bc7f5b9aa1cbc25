"""A classifier that has not as many classes as its data: told before training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from msn_mm.errors import UserError
from msn_mm.registry import HOOKS


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compare the model's classes with those of its data.

    Raises:
        UserError: Before training, if the model's ``num_classes`` is not the number
            of the training data's classes, or the validation data has others.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Look."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        has = getattr(model, "num_classes", None)
        if has is None:
            has = getattr(getattr(model, "head", None), "num_classes", None)
        classes = _classes(runner.train_dataloader.dataset)
        if has is not None and classes is not None and len(classes) != has:
            raise UserError(
                f"the model has {has} classes and the training data {len(classes)} "
                f"('{classes[0]}' ... '{classes[-1]}'): set the model's num_classes={len(classes)}"
            )
        if runner.val_loop is None:
            return
        others = _classes(runner.val_loop.dataloader.dataset)
        if classes is not None and others is not None and classes != others:
            odd = sorted(set(classes) ^ set(others))
            raise UserError(
                f"class '{odd[0]}' is in one of training and validation data only; give both the "
                "same classes"
                if odd
                else "training and validation data have their classes in different orders"
            )


def _classes(dataset: Any) -> tuple[str, ...] | None:
    found = getattr(dataset, "metainfo", {}).get("classes")
    return None if found is None else tuple(found)
