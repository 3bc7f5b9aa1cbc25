"""Methods on real digits at tiny size, through the real runner: what their tests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from msn_mm.engine.launch import load_config
from tests.helpers import IMAGES, weights


def tiny(method: str, size: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """A method's digits config with 64 images, batch 16, three epochs.

    Args:
        method: As its config is called.
        size: Options that make its networks small.
        options: Further ones, last.
    """
    cfg = load_config(f"configs/{method}_digits.py")
    cfg.merge_from_dict(
        {
            "train_dataloader.dataset.dataset.indices": IMAGES,
            "global_batch_size": 16,
            "base_batch_size": 16,
            "train_cfg.max_epochs": 3,
            "train_cfg.val_interval": 1000,
            "default_hooks.checkpoint.interval": 1,
            "visualizer.vis_backends": [dict(type="LocalVisBackend")],
            **size,
        }
    )
    for part in cfg.param_scheduler:
        part.update({"begin": 1} if part.type == "CosineAnnealingLR" else {"end": 1})
    cfg.merge_from_dict(dict(options))
    return cfg


def state(runner: Any) -> dict[str, Any]:
    """All that training moves: weights, statistics of every batch norm, the optimizer's moments."""
    moments = runner.optim_wrapper.optimizer.state_dict()["state"]
    return {
        "model": weights(runner),
        "optimizer": {
            number: {name: value.clone() for name, value in values.items()}
            for number, values in moments.items()
        },
    }


class Poison(Hook):
    """Make the trained network's representations not finite at one iteration.

    Args:
        iteration: Counted from 0.
        where: The module of the model whose output is spoilt.

    Attributes:
        before: All that training moves, before that iteration.
        after: The same after it.
    """

    priority = "VERY_HIGH"

    def __init__(self, iteration: int, where: str) -> None:
        self.iteration, self.where = iteration, where
        self.before: Any = None
        self.after: Any = None

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if runner.iter == self.iteration:
            self.before = state(runner)
            module = runner.model.get_submodule(self.where)
            self.handle = module.register_forward_hook(_spoil)
        if runner.iter == self.iteration + 1:
            self.handle.remove()
            self.after = state(runner)


def _spoil(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * float("inf")
