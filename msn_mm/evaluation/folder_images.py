"""A folder of anyone's images, through the view that a config's model is evaluated with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmengine.config import Config

from msn_mm.datasets import EvalCrop, EvaluationImages, ImageFolder
from msn_mm.errors import UserError
from msn_mm.evaluation.transfer_view import own_view, transfer_view


def folder_images(
    cfg: Config, folder: str | Path, labels: Literal["none", "folder"] = "none"
) -> EvaluationImages:
    """Return the images of a folder for a config's model, through :func:`folder_view`.

    Args:
        cfg: The model's config.
        folder: The images, however deep.
        labels: As :class:`~msn_mm.datasets.ImageFolder`.

    Raises:
        UserError: There are no images.
    """
    if not str(folder):
        raise UserError("the folder of images has an empty name; give a directory")
    view = folder_view(cfg)
    return EvaluationImages(ImageFolder(folder, labels), view)


def folder_view(cfg: Config) -> EvalCrop:
    """Return the view of anyone's images for a config's model.

    It is the low-shot protocol's at the model's size: the short side, then the
    central square, so that images of any shape make one batch.

    Args:
        cfg: The model's config.
    """
    settings = transfer_view(cfg).settings()
    own = own_view(cfg) or {}
    settings["resize_mode"] = own.get("resize_mode", "short")
    settings["interpolation"] = own.get("interpolation", "bilinear")
    settings["crop"] = settings["crop"] or settings["resize"]
    return EvalCrop(**settings)
