"""The rows of a comparison: which encoders one call of a tool measures side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from mmengine.config import Config

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.checkpoint import settled_checkpoint
from msn_mm.utils.protocol_options import row_words

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One encoder of a comparison.

    Attributes:
        name: What the table calls it, different for each row.
        config: The config as the user named it.
        cfg: The config.
        checkpoint: The file of its weights; ``None`` for those that the config builds.
    """

    name: str
    config: str
    cfg: Config
    checkpoint: str | None


def read_rows(args: Any) -> list[Row]:
    """Turn a command line into rows; configs are read, checkpoints are not.

    ``--cfg-options`` concern the first config, which also names the data. All
    processes of a run call, once they have joined: a training that is still writing
    its directory must not give them different files.

    Raises:
        UserError: A config does not exist, a row has too few words, two rows have
            one name, or a training's directory holds no whole checkpoint.
    """
    first = load_config(args.config, args.cfg_options)
    found = []
    for number, (config, checkpoint, name) in enumerate(row_words(args)):
        cfg = first if number < len(args.checkpoints) else load_config(config)
        found.append((name, config, cfg, settled_checkpoint(checkpoint)))
    shown = _names(
        [
            (name, config, checkpoint, "" if cfg.get("checkpoint") else ", untrained")
            for name, config, cfg, checkpoint in found
        ]
    )
    return [
        Row(name, config, cfg, checkpoint)
        for name, (_, config, cfg, checkpoint) in zip(shown, found, strict=True)
    ]


def _names(rows: list[tuple[str | None, str, str | None, str]]) -> list[str]:
    """Name the rows: given names, else the shortest description that tells them apart."""

    def describe(config: str, checkpoint: str | None, state: str) -> Iterator[str]:
        stem = Path(config).stem
        if checkpoint is None:
            yield f"{stem}{state}"
            yield f"{config}{state}"
            return
        yield Path(checkpoint).name
        yield f"{stem}: {Path(checkpoint).name}"
        yield f"{stem}: {checkpoint}"

    choices = [
        [name] * 3 if name is not None else list(describe(config, checkpoint, state))
        for name, config, checkpoint, state in rows
    ]
    level = [0] * len(rows)
    while True:
        shown = [options[k] for options, k in zip(choices, level, strict=True)]
        counts = Counter(shown)
        again = [
            i
            for i, name in enumerate(shown)
            if counts[name] > 1 and rows[i][0] is None and level[i] + 1 < len(choices[i])
        ]
        if not again:
            break
        for i in again:
            level[i] += 1
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"two rows are called '{twice[0]}'; tell them apart by --names")
    return shown


def measured_rows(
    rows: Iterable[Row], extract: Callable[[Row], T | None]
) -> Iterator[tuple[Row, T]]:
    """Yield each row with its features, on the one process that measures.

    One process takes row by row. Several processes first extract the features
    of every row, then all but the first leave: a classifier's fit can outlast
    any limit of a collective operation, and nobody has to wait for it.

    Args:
        rows: What to measure.
        extract: Gives a row's features on the first process, on the others whatever
            is there; a collective operation of all processes.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        for row in rows:
            features = extract(row)
            assert features is not None
            yield row, features
        return
    held = [(row, extract(row)) for row in rows]
    is_first = dist.get_rank() == 0
    dist.barrier()
    dist.destroy_process_group()
    for row, features in held if is_first else ():
        assert features is not None
        yield row, features


def results_of_rows(rows: Sequence[Row], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``results.json`` that depend on how many rows there are.

    One row writes its config, checkpoint and metrics plainly; several write
    lists, and metrics by the rows' names.
    """
    if len(rows) == 1:
        row = rows[0]
        return {"config": row.config, "checkpoint": row.checkpoint, "metrics": metrics[row.name]}
    return {
        "config": [row.config for row in rows],
        "checkpoint": [row.checkpoint for row in rows],
        "metrics": metrics,
    }
