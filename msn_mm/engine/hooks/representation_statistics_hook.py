"""Bring a frozen encoder's representation to one scale before a model learns from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from msn_mm.datasets.keys import SampleKey
from msn_mm.errors import UserError
from msn_mm.registry import HOOKS

_BATCH = 64


@HOOKS.register_module()
class RepresentationStatisticsHook(Hook):
    """Measure mean and deviation of each number of the representation on training images.

    Representations of one network lie close together: of digits by MSN each number has a
    deviation of a seventh of its mean, and a linear map learns from what is common to
    all. The images are spread evenly over the data set and seen as in epoch 0, so every
    process measures the same; a run that goes on has the numbers in its checkpoint.

    Args:
        images: How many, at most.

    Raises:
        UserError: Before training, if the model takes no statistics.
    """

    def __init__(self, images: int = 2048) -> None:
        self.images = images

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, "set_statistics"):
            raise UserError(
                f"RepresentationStatisticsHook needs a model with set_statistics(); "
                f"{type(model).__name__} has none: remove the hook from custom_hooks"
            )
        if model.has_statistics:
            return
        loader: Any = runner.train_dataloader
        total = len(loader.dataset)
        count = min(self.images, total)
        chosen = np.linspace(0, total - 1, count).astype(int)
        rows = []
        for start in range(0, count, _BATCH):
            keys = [SampleKey(int(i), runner.seed, 0) for i in chosen[start : start + _BATCH]]
            batch = loader.collate_fn([loader.dataset[key] for key in keys])
            (view,) = model.data_preprocessor(batch)["inputs"].values()
            rows.append(model.represent(view["images"], model.mask_ratio, view["key"]))
        found = torch.cat(rows).double()
        model.set_statistics(found.mean(0), found.std(0, correction=0))
