"""The config of a linear evaluation, made of any model's config (appendix C.3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config, ConfigDict

from msn_mm.engine.batch import MIN_PROCESS_BATCH, quarter_batch
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.data import labelled_data
from msn_mm.evaluation.finetuning import is_linear
from msn_mm.evaluation.linear_batch import accumulation, dividing_batch
from msn_mm.evaluation.linear_metric import LinearMetric
from msn_mm.evaluation.transfer_view import (
    labelled_config,
    model_channels,
    model_window,
    own_view,
)
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
    data_of: Config | None = None,
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
        data_of: The config whose labelled data are taken, or whose recipe if it is one of
            the linear evaluation; default: ``config``.

    Raises:
        UserError: There are no labelled data, or they do not fit.
    """
    cfg = load_config(config, cfg_options)
    encoder = ConfigDict(
        config=str(resolve_config_path(config)),
        cfg_options=dict(cfg_options or {}),
        checkpoint=checkpoint,
    )
    if data_of is not None and is_linear(cfg):
        raise UserError(f"{config} is a linear evaluation by itself; a row takes a model's config")
    is_own = is_linear(cfg)
    if is_own:
        if checkpoint is not None:
            cfg.model.encoder["checkpoint"] = checkpoint
    elif data_of is not None and is_linear(data_of):
        cfg = _of_recipe(cfg, encoder, data_of)
    else:
        cfg = _of_model(cfg, encoder, data_of)
    _check_validation(cfg)
    _change(cfg, options)
    with config_mistakes():
        images = len(DATASETS.build(cfg.train_dataloader.dataset))
    pass_batch = max(options.pass_batch, MIN_PROCESS_BATCH)
    if options.global_batch is not None:
        cfg.global_batch_size = options.global_batch
    elif images < cfg.global_batch_size:
        # Several steps an epoch; the learning rate follows the batch.
        cfg.global_batch_size = dividing_batch(quarter_batch(images), processes, pass_batch)
    elif not is_own:
        cfg.global_batch_size = dividing_batch(cfg.global_batch_size, processes, pass_batch)
    cfg.accumulation = accumulation(cfg.global_batch_size, processes, pass_batch)
    return cfg


def _check_validation(cfg: Config) -> None:
    if cfg.get("val_dataloader") is None:
        raise UserError(f"{cfg.filename} names no labelled val_dataloader to measure heads on")
    written = cfg.get("val_evaluator") or {}
    for metric in [written] if isinstance(written, Mapping) else written:
        if metric.get("type") != LinearMetric.__name__:
            raise UserError(
                f"val_evaluator is {metric.get('type')!r}, which cannot measure several heads: set "
                f"val_evaluator.type={LinearMetric.__name__}"
            )


def _of_recipe(cfg: Config, encoder: ConfigDict, recipe: Config) -> Config:
    """A recipe's own data and heads on another encoder."""
    recipe = copy.deepcopy(recipe)
    recipe.model.update(encoder=encoder, features=_possible(recipe.model.features, cfg))
    for loader in (recipe.train_dataloader, recipe.val_dataloader):
        loader.dataset.transform.update(channels=model_channels(cfg), window=model_window(cfg))
    return recipe


def _of_model(cfg: Config, encoder: ConfigDict, data_of: Config | None) -> Config:
    """The shipped recipe on labelled data, seen as the model's config says."""
    data = labelled_data(data_of or cfg)
    found = labelled_config(data_of or cfg)
    assert found is not None  # labelled_data has looked
    view: Mapping[str, Any] = found["transform"]
    if data_of is not None:
        data = data.seen_by(cfg)
        seen = {"channels": model_channels(cfg), "window": model_window(cfg)}
        view = own_view(cfg) or {**view, **seen}
    channels, height, width = data.query[0].shape
    side = min(height, width)
    bases = config_directories()[0] / "_base_"
    recipe = load_config(bases / "linear.py")
    recipe.merge_from_dict(load_config(bases / "datasets" / "imagenet_labelled.py").to_dict())
    recipe.model.update(
        encoder=encoder,
        num_classes=len(data.classes),
        image_size=side,
        features=_possible(recipe.model.features, cfg),
    )
    train, val = recipe.train_dataloader.dataset, recipe.val_dataloader.dataset
    train.dataset = ConfigDict(copy.deepcopy(found["support"]))
    interpolation = view.get("interpolation", "bilinear")
    train.transform.update(
        size=side, channels=channels, interpolation=interpolation, window=view.get("window")
    )
    val.dataset = ConfigDict(copy.deepcopy(found["query"]))
    val.transform = ConfigDict(copy.deepcopy(dict(view)))
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
