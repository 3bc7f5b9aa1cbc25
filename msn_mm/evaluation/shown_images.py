"""Which images a person is shown of a training: held-out ones where there are some."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from msn_mm.datasets.data_building import build_data
from msn_mm.datasets.evaluation_images import EvaluationImages
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.errors import UserError
from msn_mm.evaluation.data import part_images
from msn_mm.evaluation.folder_images import folder_images, folder_view
from msn_mm.evaluation.transfer_view import labelled_config


def shown_images(
    cfg: Config, folder: Path | None = None, training: BaseDataset | None = None
) -> EvaluationImages:
    """Return a folder's images, else the config's held-out ones, else its training images.

    Args:
        cfg: Config of the training; images are seen through its model's view.
        folder: Images of the user's, if any.
        training: The training images, where they have been listed already.

    Raises:
        UserError: There are none, or they cannot be read.
    """
    if folder is not None:
        return folder_images(cfg, folder)
    if labelled_config(cfg) is not None:
        return part_images(cfg, "query")["query"]
    loader = cfg.get("train_dataloader") or {}
    dataset = training or (loader.get("dataset") or {}).get("dataset")
    if dataset is None:
        raise UserError("the config names no images to look at; give a folder by --images DIR")
    with config_mistakes():
        return EvaluationImages(build_data(dataset), folder_view(cfg))
