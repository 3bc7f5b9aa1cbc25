"""What a config must hold to train and validate a classifier."""

from __future__ import annotations

from mmengine.config import Config

from msn_mm.errors import UserError


def check_classifier_config(cfg: Config) -> None:
    """Refuse a config that trains no classifier or validates none.

    Raises:
        UserError: Naming what is missing.
    """
    name = cfg.filename or "the config"
    model = cfg.get("model") or {}
    if "num_classes" not in (model.get("head") or {}):
        raise UserError(
            f"{name} trains no classifier (no model.head.num_classes); take one of "
            "configs/finetune_*.py, or a config with one of them as its _base_"
        )
    if cfg.get("train_dataloader") is None or cfg.get("val_dataloader") is None:
        raise UserError(f"{name} names no labelled train_dataloader and val_dataloader")
