"""One global batch, whatever the number of processes.

A config states the batch that an optimizer step sums over (``global_batch_size``)
and the batch that its learning rate is stated for (``base_batch_size``). What
one process loads, and the learning rate, follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from msn_mm.errors import UserError
from msn_mm.registry import MODELS
from msn_mm.utils.config_types import builds

# Batch norm and the mean prediction have no meaning on a single image.
MIN_PROCESS_BATCH = 2
# Settings of MMEngine's and our schedulers that are learning rates, not shares of one.
_ABSOLUTE = ("eta_min", "eta_max", "min_value")


@dataclass(frozen=True)
class BatchPlan:
    """How many images go where.

    Attributes:
        world_size: number of processes.
        process_batch: images that one process loads for one forward pass.
        accumulation: forward passes summed before one optimizer step.
        global_batch: images that one optimizer step sums over; equal to
            ``world_size * process_batch * accumulation``.
        lr_scale: factor on the learning rates that the config states.
    """

    world_size: int
    process_batch: int
    accumulation: int
    global_batch: int
    lr_scale: float

    @property
    def pass_batch(self) -> int:
        """Images that one forward pass sees over all processes."""
        return self.world_size * self.process_batch

    def warnings(self) -> list[str]:
        """Return what a user ought to know about this plan, one sentence an entry."""
        if self.accumulation == 1:
            return []
        return [
            f"accumulation = {self.accumulation}: the gradient sums over {self.global_batch} "
            f"images, but batch norm, Sinkhorn and the mean prediction see only the "
            f"{self.pass_batch} images of one pass, so this is not the same training as a real "
            f"batch of {self.global_batch}; --micro-batch auto (model.micro_batch) saves memory "
            "and is, for a backbone without batch norm."
        ]


def resolve_batch(cfg: Config, world_size: int) -> BatchPlan:
    """Work out the batch of each process and the learning rate's factor.

    Without ``global_batch_size`` the process batch is the one that
    ``train_dataloader.batch_size`` states. Without ``base_batch_size`` the
    learning rate stays as written.

    Args:
        cfg: the config; not changed.
        world_size: number of processes.

    Raises:
        UserError: when the numbers are no positive integers, the global batch
            does not divide, or a process would get fewer than two images.
    """
    accumulation = _positive(cfg.get("accumulation", 1), "accumulation")
    passes = world_size * accumulation
    stated = cfg.get("global_batch_size")
    if stated is None:
        loader = cfg.get("train_dataloader") or {}
        process_batch = _positive(loader.get("batch_size"), "train_dataloader.batch_size")
        global_batch = process_batch * passes
    else:
        global_batch = _positive(stated, "global_batch_size")
        if global_batch % passes:
            raise UserError(
                f"global_batch_size={global_batch} does not divide into {_spell(passes, cfg)}; "
                f"the nearest that does is {_nearest(global_batch, passes)}"
            )
        process_batch = global_batch // passes
    if process_batch < MIN_PROCESS_BATCH:
        raise UserError(
            f"a batch of {global_batch} over {_spell(passes, cfg)} leaves {process_batch} image a "
            f"process; batch norm needs at least {MIN_PROCESS_BATCH}: set global_batch_size to "
            f"{MIN_PROCESS_BATCH * passes} or more"
        )
    base = cfg.get("base_batch_size")
    scale = 1.0 if base is None else global_batch / _positive(base, "base_batch_size")
    return BatchPlan(world_size, process_batch, accumulation, global_batch, scale)


def couples_images(cfg: Config) -> bool:
    """Whether the images of a batch meet in the model.

    They do unless the model's class says ``couples_images = False``, or says so of the
    model's config where it is a function; a batch in several parts is then the same training.
    """
    settings = cfg.get("model") or {}
    kind = settings.get("type")
    model = MODELS.get(kind) if isinstance(kind, str) else kind
    couples = getattr(model, "couples_images", True)
    return bool(couples(settings) if callable(couples) else couples)


def apply_batch(cfg: Config, plan: BatchPlan) -> None:
    """Write a plan into ``cfg``, in place.

    Sets the dataloader's batch and the accumulation, and scales the learning
    rate together with every absolute end value of its schedulers. The stated
    batches become the real ones, so applying a plan to a config that was
    resolved before changes nothing.
    """
    if cfg.get("train_dataloader") is not None:
        cfg.train_dataloader["batch_size"] = plan.process_batch
        # A short last batch would be another global batch, and could be one image.
        cfg.train_dataloader.setdefault("drop_last", True)
        sampler = cfg.train_dataloader.get("sampler") or {}
        if builds(sampler, "KeyedSampler") and cfg.train_dataloader["drop_last"]:
            # An epoch ends with an optimizer step, whatever the accumulation.
            sampler["multiple"] = plan.process_batch * plan.accumulation
    wrapper = cfg.get("optim_wrapper")
    if wrapper is not None:
        wrapper["accumulative_counts"] = plan.accumulation
        optimizer = wrapper.get("optimizer") or {}
        if plan.lr_scale != 1.0:
            _scale(optimizer, "lr", plan.lr_scale)
            for scheduler in _schedulers(cfg):
                if _drives_lr(scheduler):
                    for name in _ABSOLUTE:
                        _scale(scheduler, name, plan.lr_scale)
    if "global_batch_size" in cfg:
        cfg["global_batch_size"] = plan.global_batch
    if "base_batch_size" in cfg:
        cfg["base_batch_size"] = plan.global_batch


def _schedulers(cfg: Config) -> list[Mapping[str, Any]]:
    schedulers = cfg.get("param_scheduler") or []
    return [schedulers] if isinstance(schedulers, Mapping) else list(schedulers)


def _drives_lr(scheduler: Mapping[str, Any]) -> bool:
    named = scheduler.get("param_name")
    return named == "lr" if named else str(scheduler.get("type", "")).endswith("LR")


def _scale(node: Any, key: str, factor: float) -> None:
    """Scale a number, or one a parameter group."""
    found = node.get(key)
    if isinstance(found, list | tuple):
        node[key] = [one * factor for one in found]
    elif found is not None:
        node[key] = found * factor


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} must be a positive whole number, not {value!r}")
    return value


def _nearest(batch: int, passes: int) -> int:
    below, above = batch // passes * passes, -(-batch // passes) * passes
    near = below if batch - below < above - batch else above
    return max(near, MIN_PROCESS_BATCH * passes)


def _spell(passes: int, cfg: Config) -> str:
    accumulation = cfg.get("accumulation", 1)
    processes = passes // accumulation
    word = "process" if processes == 1 else "processes"
    return f"{processes} {word}" + (f" x accumulation {accumulation}" if accumulation > 1 else "")


def quarter_batch(images: int) -> int:
    """Return a batch for few images: the largest power of two of at most a quarter, 2 at least."""
    return 2 ** max(1, (images // 4).bit_length() - 1)
