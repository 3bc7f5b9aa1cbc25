"""Section: what a training logged over time."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from msn_mm.engine.build_errors import config_mistakes
from msn_mm.errors import UserError
from msn_mm.models.methods.base import PretrainingMethod
from msn_mm.registry import MODELS, SCOPE
from msn_mm.visualization.curves import Curve, History
from msn_mm.visualization.page_parts import Download, Section, details, joined, paragraph
from msn_mm.visualization.report.chart import MOST_POINTS, Chart, Level, Series, grid
from msn_mm.visualization.report.run import Run

# Heading, what y measures, and the scalars with what the legend calls them.
_PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Entropy of the mean prediction",
        "1: all prototypes alike in use; 0: one alone",
        (("mean_entropy", "entropy / ln K"),),
    ),
    (
        "Cross-entropy in units of ln K",
        "1: the uniform output, nothing learnt",
        (("ce_over_ln_k", "cross-entropy / ln K"),),
    ),
    (
        "Confidence of the targets",
        "mean largest probability",
        (("target_confidence", "confidence"),),
    ),
    (
        "Prototypes in use",
        "mean prediction of at least a tenth of 1/K",
        (("prototypes_in_use", "prototypes in use"),),
    ),
    ("Effective rank", "RankMe of the representations", (("rank_me", "effective rank"),)),
    (
        "Spread of the representations",
        "standard deviation · √D; 0: constant",
        (("feature_std", "spread"),),
    ),
    ("Learning rate", "learning rate", (("lr", "learning rate"),)),
    ("Momentum of the target network", "momentum", (("ema_momentum", "momentum"),)),
    ("Throughput", "images a second", (("images_per_s", "images a second"),)),
)
_UNINTERESTING = {"epoch", "iter", "step", "time", "data_time", "base_lr", "eta", "memory"}
_UNINTERESTING |= {"val/time", "val/data_time"}


def section(run: Run) -> Section:
    """Draw the logged scalars of a run.

    Raises:
        UserError: Nothing was logged.
    """
    history = run.work.history
    if not history.train and not history.val:
        raise UserError(
            f"no scalars were logged in {run.work.path}; a training writes them every "
            "default_hooks.logger.interval iterations: python tools/train.py CONFIG"
        )
    charts, rest = charts_of(history, _prototypes_of(run))
    body = [grid(charts)] if charts else []
    if rest:
        body.append(details("Everything else that was logged", grid(rest)))
    longest = max(map(len, [*history.train.values(), *history.val.values()]))
    if longest > MOST_POINTS:
        body.append(
            paragraph(
                f"Of {longest:,} logged values about {MOST_POINTS} a line are drawn, at equal "
                "steps; the logs of scalars hold all.",
                "note",
            )
        )
    rows = {**history.train, **{f"val {name}": curve for name, curve in history.val.items()}}
    everything = Chart("", [Series(n, c) for n, c in rows.items()], history.unit, "value")
    return Section(
        "curves", "Training curves", joined(body), [Download("curves.csv", everything.csv())]
    )


def charts_of(history: History, num_prototypes: int | None) -> tuple[list[Chart], list[Chart]]:
    """Return the charts of a run: those that matter, and all other scalars.

    Args:
        history: The logged scalars.
        num_prototypes: K, for the level ln K; None where there are none.
    """
    train = dict(history.train)
    charts = []
    losses = [name for name in train if name == "loss" or name.startswith("loss_")]
    if losses:
        levels = []
        if num_prototypes is not None:
            value = math.log(num_prototypes)
            levels = [Level(value, f"ln {num_prototypes} = {value:.2f}: uniform output (collapse)")]
        series = [Series("total" if n == "loss" else n, train.pop(n)) for n in losses]
        charts.append(Chart("Loss", series, history.unit, "nats", levels))
    for title, y_label, lines in _PANELS:
        series = [Series(label, train.pop(name)) for name, label in lines if name in train]
        if not series:
            continue
        levels = []
        if "prototypes_in_use" in dict(lines) and num_prototypes is not None:
            levels = [Level(num_prototypes, f"all {num_prototypes}")]
        top = 1.0 if y_label.startswith("1:") else num_prototypes if levels else None
        y_range = None
        if top is not None:
            y_range = (0.0, max(1.05 * top, *(y for s in series for _, y in s.points)))
        charts.append(Chart(title, series, history.unit, y_label, levels, y_range))
    accuracies = {n: c for n, c in history.val.items() if n not in _UNINTERESTING}
    percent = {n: c for n, c in accuracies.items() if "top" in n}
    if percent:
        series = [Series(accuracy_name(name), curve) for name, curve in percent.items()]
        charts.insert(
            min(1, len(charts)),
            Chart(
                "Accuracy of the frozen features",
                series,
                "epoch",
                "top-1 (%)",
                y_range=_percent_range(series),
                dots=True,
            ),
        )
    others = {n: c for n, c in train.items() if n not in _UNINTERESTING}
    others |= {n: c for n, c in accuracies.items() if n not in percent}
    return charts, [Chart(n, [Series(n, c)], history.unit, n) for n, c in others.items()]


def _percent_range(series: Sequence[Series]) -> tuple[float, float]:
    """Return whole percents around the points, with room for their dots, within 0 and 100."""
    values = [y for s in series for _, y in s.points]
    room = max(1.0, 0.06 * (max(values) - min(values)))
    low, high = math.floor(min(values) - room), math.ceil(max(values) + room)
    return float(max(0, low)), float(min(100, high))


def accuracy_name(scalar: str) -> str:
    """Word the name of an accuracy: ``lowshot/5_top1`` is ``5 labels a class``."""
    if scalar.startswith("knn"):
        return "k-NN, all labels"
    if scalar.startswith("lowshot/"):
        count = scalar.removeprefix("lowshot/").partition("_")[0]
        return f"{count} label{'s' if count != '1' else ''} a class"
    return scalar


def num_prototypes_of(cfg: Config) -> int | None:
    """Return K of a config's method; None of one without prototypes.

    The model is built on torch's meta device: of it only the number is asked.
    """
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", SCOPE))
    with scope, config_mistakes(), torch.device("meta"):
        model = MODELS.build(copy.deepcopy(cfg.model))
    found = model.prototypes() if isinstance(model, PretrainingMethod) else None
    return None if found is None else len(found)


def _prototypes_of(run: Run) -> int | None:
    try:
        return num_prototypes_of(run.work.cfg)
    except UserError:
        return None  # the overview says what is wrong with the config


def overlaid(histories: dict[str, History]) -> Sequence[Chart]:
    """Return a chart for each scalar that two runs or more logged, a line a run."""
    charts = []
    order: dict[str, tuple[str, str]] = {"loss": ("Loss, total", "nats")}
    for title, y_label, lines in _PANELS:
        order |= {name: (title, y_label) for name, _ in lines}
    names = [n for h in histories.values() for n in (*h.train, *h.val)]
    for name in dict.fromkeys(names):
        if name.startswith("loss_") or "top" in name:
            order.setdefault(name, (accuracy_name(name), "top-1 (%)" if "top" in name else "nats"))
    for name, (title, y_label) in order.items():
        curves: dict[str, Curve] = {}
        for run, history in histories.items():
            curve = history.train.get(name) or history.val.get(name)
            if curve:
                curves[run] = curve
        if len(curves) < 2:
            continue
        unit = next(iter(histories.values())).unit
        series = [Series(run, curve) for run, curve in curves.items()]
        is_percent = "top" in name
        y_range = _percent_range(series) if is_percent else None
        charts.append(
            Chart(title, series, unit, y_label, y_range=y_range, dots=is_percent, dashes=True)
        )
    return charts
