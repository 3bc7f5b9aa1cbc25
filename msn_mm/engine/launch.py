"""From a config's path to a runner that is ready to train."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from msn_mm.engine.batch import apply_batch, couples_images, resolve_batch
from msn_mm.engine.build_errors import config_mistakes
from msn_mm.engine.checkpointing import checkpoint_file
from msn_mm.engine.config_check import (
    check_top_keys,
    check_values,
    check_windows,
    merge_options,
)
from msn_mm.engine.config_text import formatted_once
from msn_mm.engine.data_root import hand_on_data_root
from msn_mm.engine.distributed import collective_timeout, decided_by_first, init_distributed
from msn_mm.engine.fsdp.settle import runner_class, settle_sharding
from msn_mm.engine.log_files import keep_logging
from msn_mm.engine.micro_batch import settle_micro_batch
from msn_mm.engine.restart import settle_resume
from msn_mm.engine.run_parts import (
    use_amp,
    use_compile,
    use_deferred_scalars,
    use_exact_loop,
    use_safe_checkpoints,
    use_starting_weights,
    use_step_schedules,
    use_stop_signals,
)
from msn_mm.engine.schedule_ends import check_schedules
from msn_mm.errors import UserError
from msn_mm.registry import SCOPE
from msn_mm.utils.checkpoint_options import AUTO
from msn_mm.utils.config_files import resolve_config_path
from msn_mm.utils.host_memory import keep_freed_memory
from msn_mm.utils.lost_process import telling_lost_process
from msn_mm.utils.paths import user_path

_RUNNERS_BUILT = itertools.count(1)
_EVALUATION = ("val_dataloader.", "test_dataloader.")
DATA_ROOT_KEY = "train_dataloader.dataset.dataset.data_root"


def load_config(path: str | Path, cfg_options: Mapping[str, Any] | None = None) -> Config:
    """Read a config, merge options into it and check its keys.

    Args:
        path: see :func:`resolve_config_path`.
        cfg_options: dotted keys and their new values. A top-level
            ``data_root`` is handed on to the training data set.

    Raises:
        UserError: when the config does not exist or cannot be read, or a key is
            misspelt.
    """
    file = resolve_config_path(path)
    try:
        cfg = Config.fromfile(str(file))
    except ImportError as error:
        first: BaseException = error  # MMEngine tells of its search, not of what went wrong
        while (cause := first.__cause__ or first.__context__) is not None:
            first = cause
        raise UserError(
            f"cannot read config {path}: {type(first).__name__}: {first}; of custom_imports, put "
            "the folder that holds the package on PYTHONPATH, or install what it imports"
        ) from error
    except Exception as error:  # a config is Python that the user wrote
        reason = error.msg if isinstance(error, SyntaxError) else error
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"cannot read config {path}{line}: {type(error).__name__}: {reason}") from (
            error
        )
    _drop_lent_names(cfg)
    check_top_keys(cfg)
    return with_options(cfg, cfg_options or {})


def with_options(cfg: Config, options: Mapping[str, Any]) -> Config:
    """Merge options into a copy of a config and check it.

    Args:
        cfg: the config; it stays as it is.
        options: as for :func:`load_config`.

    Raises:
        UserError: for a misspelt key, or a value that cannot be.
    """
    cfg = copy.deepcopy(cfg)
    merge_options(cfg, options)
    if DATA_ROOT_KEY in options and "data_root" not in options and "data_root" in cfg:
        cfg["data_root"] = options[DATA_ROOT_KEY]
    check_values(cfg)
    check_windows(cfg)
    hand_on_data_root(cfg)
    # evaluation data whose place the user named stays there
    merge_options(cfg, {key: options[key] for key in options if key.startswith(_EVALUATION)})
    return cfg


def _drop_lent_names(cfg: Config) -> None:
    """Drop top-level names with a leading underscore, which one file lends to another.

    A file under ``configs/_base_`` defines them for those that inherit it
    (``backbone=_base_._digits_vit``). Nothing reads them in the whole config, so
    an option that set one would change nothing.
    """
    for key in [key for key in cfg if key.startswith("_")]:
        cfg.pop(key)


def default_work_dir(cfg: Config, tool: str | None = None) -> str:
    """Return ``work_dirs/<config name>``, and ``/<tool>`` below it for an evaluation tool."""
    name = Path(cfg.filename).stem if cfg.filename else "unnamed"
    return str(Path("work_dirs", name, *([tool] if tool else [])))


def build_runner(
    cfg: Config,
    launcher: str = "none",
    work_dir: str | Path | None = None,
    resume: bool | str | Path = False,
    amp: bool = False,
    seed: int | None = None,
    deterministic: bool = False,
    load_from: str | Path | None = None,
    load_format: str = AUTO,
    load_arch: Mapping[str, Any] | None = None,
    compile: bool = False,
) -> Runner:
    """Resolve a config for this machine and build its runner.

    Joins the process group, divides the batch, scales the learning rate, sets
    the directory and finds the checkpoint to resume from.

    Args:
        cfg: the config; never changed, the runner owns a copy.
        launcher: ``none``, ``pytorch`` or ``slurm``.
        work_dir: where everything is written; default: the config's
            ``work_dir``, else ``work_dirs/<config name>``.
        resume: ``True`` for the newest whole checkpoint in ``work_dir``, or the
            path of one. So does the config's ``resume``, the path being its
            ``load_from``; without a checkpoint in ``work_dir`` it starts.
        amp: train in bfloat16 where that is safe (autocast).
        seed: overrides the config's seed.
        deterministic: ask torch for deterministic algorithms.
        load_from: a checkpoint of any known format to start from (file, directory or
            address; of a training's directory its newest whole one); default: the
            config's ``load_from``. The runner's config names the file.
        load_format: the format of that checkpoint, where its keys do not tell it.
        load_arch: what else its weights do not tell; see
            :meth:`msn_mm.convert.format.Format.read`.
        compile: run the backbone's blocks by ``torch.compile``.

    Raises:
        UserError: for every mistake in the config, the launch or the
            checkpoint that can be told before training starts.
    """
    cfg = formatted_once(cfg)
    world = init_distributed(launcher, collective_timeout(cfg))
    notes: list[tuple[int, str]] = []

    cfg.launcher = launcher
    if launcher != "none":
        cfg.setdefault("model_wrapper_cfg", ConfigDict(world.wrapper_cfg()))
    cfg.setdefault("default_scope", SCOPE)
    out = work_dir or cfg.get("work_dir") or default_work_dir(cfg)
    cfg.work_dir = str(user_path(out, "work_dir"))

    plan = None
    if cfg.get("train_dataloader") is not None:
        plan = resolve_batch(cfg, world.size)
        apply_batch(cfg, plan)
        if couples_images(cfg):
            notes += [(logging.WARNING, text) for text in plan.warnings()]
        scaled = f", learning rate x {plan.lr_scale:g}" if plan.lr_scale != 1 else ""
        notes.append(
            (
                logging.INFO,
                f"batch: {plan.process_batch} a process x {plan.world_size} processes x "
                f"{plan.accumulation} accumulated = {plan.global_batch}{scaled}",
            )
        )
        check_schedules(cfg)
    if amp:
        use_amp(cfg)
    if compile:
        use_compile(cfg)
    if world.device.type == "cpu":
        keep_freed_memory()
    notes += [(logging.INFO, text) for text in settle_sharding(cfg)]
    if plan is not None:
        notes += [(logging.INFO, text) for text in settle_micro_batch(cfg, plan, world)]
    if seed is not None or deterministic:
        randomness = dict(cfg.get("randomness") or {})
        if seed is not None:
            randomness["seed"] = seed
        if deterministic:
            randomness["deterministic"] = True
        cfg.randomness = ConfigDict(randomness)
    use_safe_checkpoints(cfg)
    if resume and load_from is not None:
        raise UserError("--load-from starts a training and --resume goes on with one: give one")
    if load_from is not None:
        cfg.load_from, cfg.resume = str(load_from), False
    reading = {"format": load_format, "arch": dict(load_arch or {})}
    reading = {key: value for key, value in reading.items() if value not in (AUTO, {})}
    if reading and (resume or cfg.get("resume") or cfg.get("load_from") is None):
        raise UserError(
            "--from and --arch tell how --load-from is read, and nothing is loaded by it: leave "
            "them out, or give --load-from"
        )
    by_config = bool(cfg.get("resume")) and not resume
    if by_config:
        resume = cfg.get("load_from") or True
    start = None if cfg.get("resume") else cfg.get("load_from")
    checkpoint, said = settle_resume(cfg.work_dir, resume, start, or_start=by_config)
    notes += said
    use_exact_loop(cfg)
    use_step_schedules(cfg)
    use_deferred_scalars(cfg)
    use_stop_signals(cfg)
    if checkpoint is None:
        if start is not None:
            cfg.load_from, passed_over = decided_by_first(partial(checkpoint_file, start))
            notes += [(logging.WARNING, text) for text in passed_over]
        use_starting_weights(cfg, reading)
    # MMEngine shares its log history among runners of one name, which it makes
    # from the clock's second: number the runners of this process.
    number = next(_RUNNERS_BUILT)
    if number > 1 and not cfg.get("experiment_name"):
        cfg.experiment_name = f"{Path(cfg.filename).stem if cfg.filename else 'run'}_{number}"
    with config_mistakes():
        runner = runner_class(cfg).from_cfg(cfg)
    # Not by the config, which lies beside the checkpoints to train the same once more.
    runner._resume = checkpoint is not None
    if checkpoint is not None:
        runner._load_from = str(checkpoint)
    keep_logging(runner)
    runner.logger.info(f"environment, config and hooks: {runner.logger.log_file}")
    for level, text in notes:
        runner.logger.log(level, text)
    return runner


def train(runner: Runner) -> None:
    """Run the training of a runner, telling mistakes in the data and the config in one line.

    Raises:
        UserError: for a wrong data set or schedule setting, or a data set that
            has fewer images than one batch.
    """
    with config_mistakes():
        loader = runner.train_dataloader
    if len(loader) == 0:
        raise UserError(
            f"the data set has {len(loader.dataset)} images, fewer than one batch: give more "
            "images or set a smaller global_batch_size"
        )
    with config_mistakes(), telling_lost_process(runner.rank, runner.world_size):
        runner.train()
