"""Classifiers trained on labels: what their configs must hold, and how to test them."""

from __future__ import annotations

import copy

from mmengine.config import Config

from msn_mm.errors import UserError


def is_classifier(cfg: Config) -> bool:
    """Whether a config trains a classifier: its model has a head with a number of classes."""
    head = (cfg.get("model") or {}).get("head") or {}
    return "num_classes" in head


def is_linear(cfg: Config) -> bool:
    """Whether a config trains linear heads on a frozen encoder."""
    return (cfg.get("model") or {}).get("type") == "LinearProbe"


def check_classifier(cfg: Config) -> None:
    """Refuse a config that trains no classifier or validates none.

    Raises:
        UserError: Naming what is missing.
    """
    name = cfg.filename or "the config"
    if not is_classifier(cfg):
        raise UserError(
            f"{name} trains no classifier (no model.head.num_classes); take one of "
            "configs/finetune_*.py, or a config with one of them as its _base_"
        )
    if cfg.get("train_dataloader") is None or cfg.get("val_dataloader") is None:
        raise UserError(f"{name} names no labelled train_dataloader and val_dataloader")


def classifier_test(cfg: Config) -> Config:
    """Return a copy of a classifier's or a linear evaluation's config that tests, and no more.

    It tests on the validation data where the config names no test data.

    Raises:
        UserError: See :func:`check_classifier`.
    """
    if not is_linear(cfg):
        check_classifier(cfg)
    cfg = copy.deepcopy(cfg)
    cfg.test_cfg = {}
    if ((cfg.get("test_dataloader") or {}).get("dataset") or {}).get("type") == "LabelledImages":
        # Few labels on the frozen trunk: another question than how well this head answers.
        cfg.test_dataloader = cfg.test_evaluator = None
    for part in ("dataloader", "evaluator"):
        cfg[f"test_{part}"] = cfg.get(f"test_{part}") or cfg[f"val_{part}"]
    for name in ("train", "val"):
        for key in (f"{name}_cfg", f"{name}_dataloader", f"{name}_evaluator"):
            cfg[key] = None
    cfg.optim_wrapper = cfg.param_scheduler = cfg.load_from = None
    cfg.custom_hooks = [dict(type="ClassCountHook")]
    cfg.resume = False
    return cfg
