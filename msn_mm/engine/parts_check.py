"""A config's parts built once for the sake of their errors, before anything is written or read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from msn_mm.datasets.image_folder import check_root
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.registry import HOOKS, METRICS, SCOPE, TRANSFORMS
from msn_mm.utils.config_types import builds

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def check_parts(cfg: Config, model: nn.Module) -> None:
    """Build optimizer, hooks, evaluators and views, and forget them again.

    MMEngine builds them one by one while a training starts, behind hundreds of lines
    of its log; a mistake in one of them is told here instead.

    Args:
        cfg: The config; it stays as it is.
        model: Its model, on any device.

    Raises:
        UserError: One line on the first part that cannot be built.
    """
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", SCOPE))
    with scope, config_mistakes():
        if cfg.get("optim_wrapper") is not None:
            build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
        for hook in cfg.get("custom_hooks") or []:
            if isinstance(hook, Mapping):
                HOOKS.build(copy.deepcopy(hook))
        for part in ("val_evaluator", "test_evaluator"):
            for metric in _as_list(cfg.get(part)):
                METRICS.build(copy.deepcopy(metric))
        for name in _LOADERS:
            dataset = (cfg.get(name) or {}).get("dataset")
            transform = dataset.get("transform") if isinstance(dataset, Mapping) else None
            if isinstance(transform, Mapping):
                TRANSFORMS.build(copy.deepcopy(transform))


def check_train_folder(cfg: Config) -> None:
    """Refuse a folder of training images that is not there.

    Raises:
        UserError: Naming the folder.
    """
    dataset: Any = (cfg.get("train_dataloader") or {}).get("dataset")
    while isinstance(dataset, Mapping) and isinstance(dataset.get("dataset"), Mapping):
        dataset = dataset["dataset"]
    if not isinstance(dataset, Mapping) or not builds(dataset, "ImageFolder"):
        return
    root = dataset.get("data_root")
    if isinstance(root, str | Path):
        check_root(Path(root).expanduser())


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
