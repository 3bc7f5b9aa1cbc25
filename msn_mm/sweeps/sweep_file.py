"""What a sweep file asks for: runs, seeds, evaluation, baselines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError, did_you_mean
from msn_mm.evaluation.low_shot_protocol import LowShotProtocol
from msn_mm.utils.config_files import resolve_config_path

BASELINES = ("raw_pixels", "untrained")
# What their rows are called; several kinds of untrained encoders are told apart behind it.
RAW_PIXELS, UNTRAINED = "raw pixels", "untrained"
_KEYS = ("title", "config", "runs", "seeds", "options", "evaluation", "baselines", "published")
_RUN_KEYS = ("label", "config", "options", "published")
_PROTOCOL_KEYS = ("images_per_class", "fractions", "subset_files", "splits", "seed", "lambd")
_LISTS = ("images_per_class", "fractions", "subset_files", "knn")
_EVALUATION_KEYS = (*_PROTOCOL_KEYS, "solver", "knn", "temperature")


@dataclass(frozen=True)
class SweepRun:
    """One row of a sweep: a config and its changes, trained once a seed.

    Attributes:
        label: What tables call it.
        slug: What its directory is called.
        config: The config as the sweep file names it.
        options: All changes to the config, as ``--cfg-options``.
        cfg: The config with the changes.
        published: What others measured, on data of their own.
    """

    label: str
    slug: str
    config: str
    options: Mapping[str, Any]
    cfg: Config
    published: float | None = None


@dataclass(frozen=True)
class SweepEvaluation:
    """How a finished run is measured.

    Attributes:
        protocol: The low-shot protocol.
        knn: Numbers of neighbours; empty for no k-NN.
        temperature: Of the neighbours' weights.
    """

    protocol: LowShotProtocol
    knn: Sequence[int] = (10,)
    temperature: float = 0.07

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, for ``results.json``."""
        return {
            **self.protocol.settings(),
            "knn": list(self.knn),
            "knn_temperature": self.temperature,
        }


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read.

    Attributes:
        title: What is compared.
        runs: The rows.
        seeds: Training seeds of every row.
        evaluation: How every run is measured.
        baselines: Rows that are not trained, of :data:`BASELINES`.
        published: What the runs' ``published`` numbers are, for a heading.
    """

    title: str
    runs: Sequence[SweepRun]
    seeds: Sequence[int]
    evaluation: SweepEvaluation
    baselines: Sequence[str] = BASELINES
    published: str | None = None
    selected: frozenset[str] = field(default_factory=frozenset)

    def is_selected(self, run: SweepRun) -> bool:
        """Whether the run may be trained, not only shown."""
        return not self.selected or run.label in self.selected


def read_sweep(
    path: str | Path,
    seeds: Sequence[int] | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
) -> Sweep:
    """Read a sweep file and every config that it names.

    Args:
        path: A Python config with ``runs``, a list of dicts with ``label``,
            ``config``, ``options`` (dotted keys) and ``published``; ``config`` and
            ``options`` of all runs, of which a run's own come after; ``seeds``;
            ``evaluation`` (the settings of
            :class:`~msn_mm.evaluation.low_shot_protocol.LowShotProtocol`, ``knn``
            and ``temperature``); ``baselines``; ``title``; ``published``, a heading.
        seeds: Instead of the file's.
        cfg_options: Changes of all runs, which come last.
        only: Labels of the runs to train; none for all.

    Raises:
        UserError: A mistake in the file or in a run's config or options.
    """
    file = resolve_config_path(path)
    try:
        content = Config.fromfile(str(file)).to_dict()
    except Exception as error:  # a sweep file is Python that the user wrote
        raise UserError(f"cannot read sweep {path}: {type(error).__name__}: {error}") from error
    _check_keys(content, path)
    common = dict(content.get("options") or {})
    config = content.get("config")
    runs = [
        _read_run({"config": config, **one}, number, common, cfg_options or {}, path)
        for number, one in enumerate(content["runs"])
    ]
    _check_names(runs, path)
    labels = [run.label for run in runs]
    for name in only:
        if name not in labels:
            raise UserError(
                f"--only: the sweep has no run '{name}'.{did_you_mean(name, labels)} "
                f"It has: {', '.join(labels)}"
            )
    return Sweep(
        title=str(content.get("title") or file.stem),
        runs=runs,
        seeds=_seeds(seeds if seeds is not None else content.get("seeds", (0,)), path),
        evaluation=_evaluation(content.get("evaluation") or {}, path),
        baselines=_baselines(content.get("baselines", BASELINES), path),
        published=content.get("published"),
        selected=frozenset(only),
    )


def _check_keys(content: Mapping[str, Any], path: str | Path) -> None:
    for key in content:
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.75)
        if key not in _KEYS and near:
            raise UserError(f"sweep {path}: unknown key '{key}'. Did you mean '{near[0]}'?")
    runs = content.get("runs")
    if not isinstance(runs, Sequence) or not runs or not all(isinstance(r, Mapping) for r in runs):
        raise UserError(
            f"sweep {path} lists no runs: set runs = [dict(label=..., config=..., options=...)], "
            "as configs/sweeps/*.py do"
        )


def _read_run(
    one: Mapping[str, Any],
    number: int,
    common: Mapping[str, Any],
    last: Mapping[str, Any],
    path: str | Path,
) -> SweepRun:
    where = f"sweep {path}: run {one.get('label', number)!r}"
    for key in one:
        if key not in _RUN_KEYS:
            raise UserError(f"{where} has an unknown key '{key}'.{did_you_mean(key, _RUN_KEYS)}")
    for key in ("label", "config"):
        if not isinstance(one.get(key), str) or not one[key].strip():
            raise UserError(f"{where} has no '{key}'; every run needs a label and a config")
    options = {**common, **(one.get("options") or {}), **last}
    try:
        cfg = load_config(one["config"], options)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    slug = re.sub(r"[^a-z0-9.]+", "_", one["label"].lower()).strip("_.") or f"run_{number}"
    return SweepRun(one["label"], slug, one["config"], options, cfg, one.get("published"))


def _check_names(runs: Sequence[SweepRun], path: str | Path) -> None:
    seen: dict[str, str] = {}
    for run in runs:
        if run.slug in seen:
            raise UserError(
                f"sweep {path}: runs '{seen[run.slug]}' and '{run.label}' would share the "
                f"directory '{run.slug}'; give them labels further apart"
            )
        seen[run.slug] = run.label
        if run.label == RAW_PIXELS or run.label.startswith(UNTRAINED):
            raise UserError(
                f"sweep {path}: '{run.label}' is the name of a row that is not trained; give the "
                "run another label"
            )


def _seeds(seeds: Any, path: str | Path) -> list[int]:
    found = [seeds] if isinstance(seeds, int) else list(seeds)
    if not found or any(type(seed) is not int or seed < 0 for seed in found):
        raise UserError(f"sweep {path}: seeds is {seeds!r}; give whole numbers of 0 or more")
    return list(dict.fromkeys(found))


def _evaluation(given: Any, path: str | Path) -> SweepEvaluation:
    if not isinstance(given, Mapping):
        raise UserError(f"sweep {path}: evaluation is {given!r:.60}; give dict(knn=(10,), ...)")
    for key in given:
        if key not in _EVALUATION_KEYS:
            near = did_you_mean(key, _EVALUATION_KEYS)
            raise UserError(f"sweep {path}: evaluation has an unknown key '{key}'.{near}")
    lists: dict[str, Any] = {k: _as_list(v) for k, v in given.items() if k in _LISTS}
    protocol = {k: v for k, v in given.items() if k not in (*_LISTS, "temperature")}
    knn = lists.pop("knn", [10])
    temperature = float(given.get("temperature", 0.07))
    if not temperature > 0:
        raise UserError(f"sweep {path}: evaluation.temperature is {temperature}; above 0, please")
    return SweepEvaluation(
        protocol=LowShotProtocol(**protocol, **lists),
        knn=knn,
        temperature=temperature,
    )


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, int | float | str) else list(value)


def _baselines(given: Any, path: str | Path) -> list[str]:
    given = _as_list(given)
    for name in given:
        if name not in BASELINES:
            raise UserError(
                f"sweep {path}: unknown baseline '{name}'.{did_you_mean(str(name), BASELINES)} "
                f"Known: {', '.join(BASELINES)}"
            )
    return given
