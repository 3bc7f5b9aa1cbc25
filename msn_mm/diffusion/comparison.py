"""The RCDMs that one call of a command sets side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msn_mm.diffusion.drawing import Plan
from msn_mm.diffusion.loading import check_masks, load_rcdm, use_encoder
from msn_mm.diffusion.rcdm import RCDM
from msn_mm.diffusion.sampling import Sampler
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import settled_checkpoint
from msn_mm.evaluation.rows import Row
from msn_mm.utils.progress import Progress
from msn_mm.utils.protocol_options import checkpoint_of


def load_rows(rows: Sequence[Row], args: Any) -> dict[str, RCDM]:
    """Load the RCDM of each row, by its name.

    Args:
        rows: From :func:`~msn_mm.evaluation.rows.read_rows`.
        args: ``mask_ratio``; further ``backbone`` and ``backbone_config``, where a
            command has them.

    Raises:
        UserError: A row is no RCDM, cannot be masked, or its samples have another size
            than the first's.
    """
    models: dict[str, RCDM] = {}
    for row in rows:
        if row.checkpoint is None:
            raise UserError("an RCDM is trained: give its checkpoint in the place of 'none'")
        models[row.name] = load_rcdm(row.cfg, row.checkpoint)
    first = models[rows[0].name]
    backbone = getattr(args, "backbone", None)
    if backbone is not None:
        config = args.backbone_config or first.encoder_source.get("config")
        if config is None:
            raise UserError("--backbone: give its config too, by --backbone-config")
        told = use_encoder(first, load_config(config), settled_checkpoint(checkpoint_of(backbone)))
        if told is not None:
            print(f"note: {told}", flush=True)
    for name, model in models.items():
        sizes = [(m.side, m.encoder.in_channels) for m in (first, model)]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{name} reads {sizes[1][1]} channel(s) of {sizes[1][0]} pixels and "
                f"{rows[0].name} {sizes[0][1]} of {sizes[0][0]}; draw them by two calls"
            )
        check_masks(model, args.mask_ratio, name)
    return models


def plan_of(args: Any, progress: Progress | None = None) -> Plan:
    """Return the plan that a command line asks for.

    Args:
        args: Of :func:`~msn_mm.diffusion.commands.options.add_sampling_options`.
        progress: Told of every sample.
    """
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress.to(done)

    return Plan(
        args.samples,
        Sampler(args.sampler, args.steps),
        args.seed,
        args.batch_size,
        args.amp,
        step,
    )


def chosen_indices(count: int, most: int, seed: int) -> list[int]:
    """Return at most so many places, drawn at random and put in order; 0 for all.

    Evenly spread ones would meet few classes where the data repeat them in turn.
    """
    if most == 0 or most >= count:
        return list(range(count))
    drawn = np.random.Generator(np.random.Philox(key=seed)).permutation(count)[:most]
    return sorted(int(place) for place in drawn)
