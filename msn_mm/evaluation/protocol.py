"""A config's evaluation data and metric, built outside of MMEngine's loops."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from torch import nn

from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData
from msn_mm.evaluation.encoder import FrozenEncoder
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.features import Features
from msn_mm.evaluation.lowshot_metric import LowShotMetric
from msn_mm.registry import METRICS

_MISSING = (
    "{name} names no labelled data to evaluate on: set {part}_dataloader to a data set of labelled "
    "support and query images (type='LabelledImages'), {part}_evaluator=dict(type='LowShotMetric') "
    "and {part}_cfg=dict(), as configs/msn_digits.py does"
)


def evaluation_parts(cfg: Config, part: str = "val") -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return a config's evaluation data loader and its low-shot metric's settings.

    Args:
        cfg: A config.
        part: ``"val"`` or ``"test"``; the other one serves where it is missing.

    Returns:
        The data loader's config and the metric's.

    Raises:
        UserError: The config has no labelled data, or no ``LowShotMetric``.
    """
    for name in (part, "val" if part == "test" else "test"):
        loader, evaluator = cfg.get(f"{name}_dataloader"), cfg.get(f"{name}_evaluator")
        if loader is None or evaluator is None:
            continue
        metrics = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
        for metric in metrics:
            if metric.get("type") in ("LowShotMetric", LowShotMetric):
                return loader, dict(metric)
    raise UserError(_MISSING.format(name=cfg.filename or "the config", part=part))


def evaluation_only(cfg: Config) -> Config:
    """Return a copy of a config that has a test loop and nothing of training.

    Raises:
        UserError: See :func:`evaluation_parts`.
    """
    loader, metric = evaluation_parts(cfg, "test")
    cfg = copy.deepcopy(cfg)
    for name in ("train", "val"):
        for key in (f"{name}_cfg", f"{name}_dataloader", f"{name}_evaluator"):
            if key in cfg:
                cfg[key] = None
    for key in ("optim_wrapper", "param_scheduler", "custom_hooks", "load_from"):
        if key in cfg:
            cfg[key] = None
    cfg.resume = False
    cfg.test_cfg, cfg.test_dataloader, cfg.test_evaluator = {}, loader, [metric]
    return cfg


def bare_model(model: nn.Module) -> nn.Module:
    """Return the model inside a distributed wrapper, or the model itself."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def build_metric(settings: Mapping[str, Any], **overrides: Any) -> LowShotMetric:
    """Build the metric, some of its settings replaced."""
    return METRICS.build({**settings, **overrides})


def labelled_features(
    encoder: FrozenEncoder, data: LabelledData, **extraction: Any
) -> Features | None:
    """Encode support and query images.

    Args:
        encoder: What encodes.
        data: What is encoded.
        **extraction: Keyword arguments of :func:`~msn_mm.evaluation.extraction.extract`.

    Returns:
        The features on rank 0, ``None`` on other processes.
    """
    parts = (data.support, data.query)
    labels = [part.labels for part in parts if part.labels is not None]
    rows = [extract(encoder, part, **extraction) for part in parts]
    here = [part for part in rows if part is not None]
    if not here:
        return None
    is_support = np.repeat([True, False], [len(part) for part in parts])
    return Features(np.concatenate(here), np.concatenate(labels), is_support)
