"""The choices as a config of MMEngine, and as a file that an expert goes on with."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from msn_mm.auto_pretraining.settings import Choices, CostOf
from msn_mm.auto_pretraining.views import view_groups
from msn_mm.datasets.pixel_window import window_setting
from msn_mm.engine.launch import load_config
from msn_mm.engine.micro_batch import build_on_meta, cost_of
from msn_mm.evaluation.folder_images import folder_view
from msn_mm.utils.checkpoint_files import is_address
from msn_mm.utils.results import write_atomically
from msn_mm.utils.training_cost import TrainingCost

BASE = "msn_folder.py"
_MONITORED = 50
# Checks of the collapse monitor between two measurements, where there are steps enough.
_CHECKS = 4


@dataclass(frozen=True)
class Data:
    """Where images and labels lie.

    Attributes:
        folder: The images.
        count: How many.
        labels: A CSV or a folder of labelled images, if any.
        root: Where the CSV's paths begin.
        seed: Of the training.
    """

    folder: str
    count: int
    labels: str | None = None
    root: str | None = None
    seed: int = 0


def make_config(chosen: Choices, data: Data) -> Config:
    """Return the config of a training: ``configs/msn_folder.py`` with the choices in it.

    Args:
        chosen: The choices.
        data: The data; paths are written in full.
    """
    cfg = copy.deepcopy(_base(_full(data.folder)))
    channels = len(chosen.mean)
    backbone = cfg.model.backbone
    backbone.clear()
    backbone.update(copy.deepcopy(chosen.backbone))
    cfg.model.data_preprocessor.update(mean=list(chosen.mean), std=list(chosen.std))
    hidden, output, prototypes = chosen.head
    cfg.model.head.update(hidden_dim=hidden, output_dim=output, num_prototypes=prototypes)
    if chosen.micro_batch is not None:
        cfg.model.micro_batch = chosen.micro_batch
    loader = cfg.train_dataloader
    loader.update(
        num_workers=chosen.workers,
        persistent_workers=chosen.workers > 0,
        pin_memory=chosen.pin_memory,
    )
    if not chosen.forks:
        cfg.env_cfg.mp_cfg.mp_start_method = "spawn"
    transform = loader.dataset.transform
    transform.channels = channels
    transform.update(window_setting(chosen.window))
    groups = view_groups(chosen.sizes, chosen.focal_views, chosen.is_grey, chosen.mirror, channels)
    transform["views"] = ConfigDict(groups)
    # The rate is this batch's: what a user scales, scales from here.
    cfg.global_batch_size = cfg.base_batch_size = chosen.batch
    cfg.optim_wrapper.optimizer.update(lr=chosen.rate, fused=chosen.fused)
    if chosen.amp:
        cfg.optim_wrapper.type = "AmpGroupOptimWrapper"
    cfg.param_scheduler = _schedules(cfg.param_scheduler, chosen.warm_up)
    cfg.train_cfg.max_epochs = chosen.epochs
    cfg.default_hooks.checkpoint.interval = chosen.patience_epochs
    cfg.custom_hooks = _hooks(cfg.custom_hooks, chosen, data.count // chosen.batch)
    cfg.randomness = dict(seed=data.seed)
    if chosen.start is not None:
        is_file = Path(chosen.start).expanduser().exists() and not is_address(chosen.start)
        cfg.load_from = _full(chosen.start) if is_file else chosen.start
    if data.labels is not None:
        _measure(cfg, chosen, data)
    return cfg


def cost_of_choices(data: Data) -> CostOf:
    """Return the function that tells what candidates cost; see :func:`choices.choose`."""

    known: dict[str, TrainingCost] = {}

    def cost(chosen: Choices) -> TrainingCost:
        # To build a model takes time; of another batch it has other prototypes, which cost nothing
        # beside the encoder.
        model = repr((chosen.backbone, chosen.head[:2], chosen.sizes, chosen.focal_views))
        if model not in known:
            cfg = make_config(chosen, data)
            known[model] = cost_of(cfg, build_on_meta(cfg), chosen.amp, sharded=False)
        return known[model]

    return cost


def write_config(cfg: Config, chosen: Choices, path: Path) -> None:
    """Write a config that stands by itself, with what was chosen and why at its head.

    Args:
        cfg: Of :func:`make_config`.
        chosen: What it was made of.
        path: The file; written beside and renamed.
    """
    said = "\n".join(f"{name}: {value}\n    {why}" for name, (value, why) in chosen.reasons.items())
    # A name of a file may hold anything; the docstring must not end by it.
    said = said.replace("\\", "\\\\").replace('"', "'")
    head = (
        '"""Chosen by msn-mm pretrain for one machine and one folder of images.\n\n'
        f"    python tools/train.py {path.name}\n\n{said}\n"
        '"""\n\n'
    )
    write_atomically(path, (head + cfg.pretty_text).encode(errors="surrogateescape"))


@lru_cache(maxsize=1)
def _base(folder: str) -> Config:
    return load_config(BASE, {"data_root": folder})


def _full(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _schedules(schedules: list[Any], warm_up: int) -> list[Any]:
    first, cosine, *rest = copy.deepcopy(schedules)
    if warm_up == 0:  # of a single epoch
        return [{**cosine, "begin": 0}, *rest]
    return [{**first, "end": warm_up}, {**cosine, "begin": warm_up}, *rest]


def _hooks(hooks: list[Any], chosen: Choices, steps: int) -> list[Any]:
    found = copy.deepcopy(list(hooks))
    between = chosen.patience_epochs * max(steps, 1)
    for hook in found:
        if hook["type"] == "EMAHook":
            hook["momentum"] = chosen.momentum
        if hook["type"] == "CollapseMonitorHook":
            interval = min(_MONITORED, max(1, math.ceil(between / _CHECKS)))
            hook.update(interval=interval, window=min(8, interval))
    place = [hook["type"] for hook in found].index("CollapseMonitorHook") + 1
    stop = dict(type="SettledStopHook", interval=chosen.patience_epochs)
    return [*found[:place], stop, *found[place:]]


def _measure(cfg: Config, chosen: Choices, data: Data) -> None:
    """Let the training measure itself on the labelled images."""
    assert data.labels is not None
    # As msn-mm fit is going to see them.
    view = folder_view(Config(dict(model=dict(backbone=chosen.backbone)))).settings()
    view |= window_setting(chosen.window)
    dataset = dict(
        type="UserLabels",
        labels=_full(data.labels),
        images=None if data.root is None else _full(data.root),
        transform=dict(type="EvalCrop", **view),
    )
    cfg.val_dataloader = dict(
        batch_size=min(chosen.batch, 64),
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        collate_fn=dict(type="default_collate"),
        dataset=dataset,
    )
    cfg.val_cfg = dict()
    cfg.val_evaluator = dict(type="FewLabelsMetric")
    cfg.train_cfg.val_interval = chosen.patience_epochs
