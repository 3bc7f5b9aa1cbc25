"""The config of a linear evaluation, made of any model's config (appendix C.3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config, ConfigDict

from msn_mm.engine.batch import quarter_batch
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.data import labelled_data
from msn_mm.evaluation.transfer_view import labelled_config
from msn_mm.models.readout import can_mask, trunk_of
from msn_mm.registry import DATASETS
from msn_mm.utils.config_files import config_directories, resolve_config_path

BATCH = 16384


@dataclass(frozen=True)
class LinearOptions:
    """What a user may change of the recipe; ``None`` leaves what the config says.

    Attributes:
        epochs: Length of the training.
        global_batch: Images of an optimizer step over all processes.
        pass_batch: Most images of one forward pass on one process.
        features: What the heads read.
        lr_scales: Their learning rates, over the recipe's.
        layer_norms: Without or with a layer norm of their own, or both.
        holdout: Share of each class's training images to choose the best head by.
        scale: Range of the share of an image that a training crop covers.
        flip: Probability of the mirror image.
        amp: bfloat16 autocast.
        workers: Data workers of a process.
    """

    epochs: int | None = None
    global_batch: int | None = None
    pass_batch: int = 256
    features: Sequence[str] | None = None
    lr_scales: Sequence[float] | None = None
    layer_norms: Sequence[bool] | None = None
    holdout: float = 0.0
    scale: Sequence[float] | None = None
    flip: float | None = None
    amp: bool | None = None
    workers: int | None = None


def linear_config(
    config: str,
    checkpoint: str | None,
    cfg_options: Mapping[str, Any] | None,
    options: LinearOptions,
    processes: int = 1,
) -> Config:
    """Return the config that trains linear heads on an encoder.

    Args:
        config: A config of the linear evaluation (``model.type`` is
            ``LinearProbe``), or that of a model: its labelled data
            (:class:`~msn_mm.datasets.LabelledImages`) and its view then fill the
            recipe of ``configs/_base_/linear.py``.
        checkpoint: The encoder's weights; ``None`` for those that the config builds.
        cfg_options: Changes of ``config``.
        options: Changes of the recipe.
        processes: How many train together.

    Raises:
        UserError: There are no labelled data, or they do not fit.
    """
    cfg = load_config(config, cfg_options)
    if (cfg.get("model") or {}).get("type") == "LinearProbe":
        if checkpoint is not None:
            cfg.model.encoder["checkpoint"] = checkpoint
    else:
        cfg = _of_model(config, cfg, checkpoint, cfg_options)
    _change(cfg, options)
    images = len(DATASETS.build(cfg.train_dataloader.dataset))
    if options.global_batch is not None:
        cfg.global_batch_size = options.global_batch
    elif images < cfg.global_batch_size:
        # Several steps an epoch; the learning rate follows the batch.
        cfg.global_batch_size = max(2 * processes, quarter_batch(images))
    cfg.accumulation = _accumulation(cfg.global_batch_size, processes, options.pass_batch)
    return cfg


def _of_model(
    config: str, cfg: Config, checkpoint: str | None, cfg_options: Mapping[str, Any] | None
) -> Config:
    data = labelled_data(cfg)
    found = labelled_config(cfg)
    assert found is not None  # labelled_data has looked
    channels, height, width = data.query[0].shape
    side = min(height, width)
    bases = config_directories()[0] / "_base_"
    recipe = load_config(bases / "linear.py")
    recipe.merge_from_dict(load_config(bases / "datasets" / "imagenet_labelled.py").to_dict())
    recipe.model.update(
        encoder=ConfigDict(
            config=str(resolve_config_path(config)),
            cfg_options=dict(cfg_options or {}),
            checkpoint=checkpoint,
        ),
        num_classes=len(data.classes),
        image_size=side,
        features=_possible(recipe.model.features, cfg),
    )
    train, val = recipe.train_dataloader.dataset, recipe.val_dataloader.dataset
    train.dataset = ConfigDict(copy.deepcopy(found["support"]))
    train.transform.update(size=side, channels=channels)
    val.dataset = ConfigDict(copy.deepcopy(found["query"]))
    val.transform = ConfigDict(copy.deepcopy(found["transform"]))
    return recipe


def _possible(features: Sequence[str], cfg: Config) -> list[str]:
    """Leave out what a trunk cannot give: a network without blocks has one output."""
    import torch

    from msn_mm.models.heads.linear_heads import parse_feature
    from msn_mm.registry import MODELS

    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        trunk = trunk_of(MODELS.build(dict(cfg["model"])))
    if not can_mask(trunk):
        return ["cls1"]
    depth = len(getattr(getattr(trunk, "vit", None), "blocks", ())) or 1
    return [feature for feature in features if parse_feature(feature)[0] <= depth]


def _change(cfg: Config, options: LinearOptions) -> None:
    model, train = cfg.model, cfg.train_dataloader
    if options.epochs is not None:
        cfg.train_cfg["max_epochs"] = options.epochs
    for name in ("features", "lr_scales", "layer_norms", "amp"):
        if getattr(options, name) is not None:
            model[name] = getattr(options, name)
    for name in ("scale", "flip"):
        if getattr(options, name) is not None:
            train.dataset.transform[name] = getattr(options, name)
    if options.workers is not None:
        for loader in (train, cfg.val_dataloader):
            loader["num_workers"] = options.workers
        train["persistent_workers"] = options.workers > 0
    if options.holdout:
        _hold_out(cfg, options.holdout)


def _hold_out(cfg: Config, fraction: float) -> None:
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader
    if val.dataset.type != "LabelledViews" or train.dataset.type == "HeldOut":
        raise UserError("the config holds training images out by itself; leave out --holdout")
    whole = train.dataset

    def part(name: str) -> ConfigDict:
        held = dict(type="HeldOut", dataset=copy.deepcopy(whole), part=name, fraction=fraction)
        return ConfigDict(held)

    train.dataset = part("train")
    val.dataset = ConfigDict(
        type="LabelledImages",
        support=part("held_out"),
        query=val.dataset.dataset,
        transform=val.dataset.transform,
    )
    val.collate_fn = ConfigDict(type="default_collate")


def _accumulation(batch: int, processes: int, pass_batch: int) -> int:
    """The fewest forward passes of at most ``pass_batch`` images that make up a batch."""
    if batch % processes:
        return 1  # the batch plan tells what is wrong, and the nearest that is right
    share = batch // processes
    fewest = -(-share // pass_batch)
    return next(n for n in range(min(fewest, share), share + 1) if share % n == 0)
