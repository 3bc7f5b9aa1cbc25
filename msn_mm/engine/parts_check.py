"""A config's parts looked at for the sake of their errors, before anything is written or read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope, Registry
from torch import nn

from msn_mm.datasets.image_folder import check_root
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.registry import HOOKS, METRICS, SCOPE, TRANSFORMS
from msn_mm.utils.config_types import builds

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# Classes of others may do more than to keep their arguments when they are built.
_BUILT = ("msn_mm.", "mmengine.")


def check_parts(cfg: Config, model: nn.Module) -> None:
    """Build optimizer, hooks, metrics and views of a config for a plan, and forget them again.

    Parts from other packages than this one and MMEngine are not built, but that their
    names are known is looked at.

    Args:
        cfg: The config; it stays as it is.
        model: Its model, on any device.

    Raises:
        UserError: One line on the first part that cannot be built.
    """
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", SCOPE))
    with scope, config_mistakes():
        wrapper = cfg.get("optim_wrapper") or {}
        # Others ask for the device that is to train, which a plan need not have.
        if builds(wrapper, "GroupOptimWrapper", "AmpGroupOptimWrapper"):
            build_optim_wrapper(model, copy.deepcopy(wrapper))
        for hook in cfg.get("custom_hooks") or []:
            if isinstance(hook, Mapping):
                # Read by the runner.
                _try(HOOKS, {k: v for k, v in hook.items() if k != "priority"})
        for part in ("val_evaluator", "test_evaluator"):
            for metric in _metrics(cfg.get(part)):
                _try(METRICS, metric)
        for name in _LOADERS:
            dataset = (cfg.get(name) or {}).get("dataset")
            transform = dataset.get("transform") if isinstance(dataset, Mapping) else None
            if isinstance(transform, Mapping):
                _try(TRANSFORMS, transform)


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


def _try(registry: Registry, part: Mapping[str, Any]) -> None:
    kind = part.get("type")
    found = registry.get(kind) if isinstance(kind, str) else kind
    if found is None or str(getattr(found, "__module__", "")).startswith(_BUILT):
        registry.build(copy.deepcopy(dict(part)))


def _metrics(evaluator: Any) -> Iterator[Mapping[str, Any]]:
    """Give the configs of metrics in any form of MMEngine's ``val_evaluator``."""
    if isinstance(evaluator, list | tuple):
        for one in evaluator:
            yield from _metrics(one)
    elif isinstance(evaluator, Mapping):
        if "metrics" in evaluator:
            yield from _metrics(evaluator["metrics"])
        else:
            yield evaluator
