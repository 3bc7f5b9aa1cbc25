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

    Data that name no classes are not looked at.

    Raises:
        UserError: Before training or testing, if ``num_classes`` of the model or its
            head is not the number of the data's classes, or the validation data has
            others than the training data.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Look at the data of training, and of the validation in between."""
        classes = _checked(runner, runner.train_dataloader, "training")
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

    def before_test(self, runner: Runner) -> None:
        """Look at the data of a test."""
        _checked(runner, runner.test_loop.dataloader, "test")


def _checked(runner: Runner, loader: Any, part: str) -> tuple[str, ...] | None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    has = getattr(model, "num_classes", None)
    if has is None:
        has = getattr(getattr(model, "head", None), "num_classes", None)
    classes = _classes(loader.dataset)
    if has is not None and classes is not None and len(classes) != has:
        raise UserError(
            f"the model has {has} classes and the {part} data {len(classes)} "
            f"('{classes[0]}' ... '{classes[-1]}'): set the model's num_classes={len(classes)}"
        )
    return classes


def _classes(dataset: Any) -> tuple[str, ...] | None:
    found = getattr(dataset, "metainfo", {}).get("classes")
    return None if found is None else tuple(found)
