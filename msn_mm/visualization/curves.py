"""The picture of a training: loss, use of the prototypes, accuracy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from msn_mm.errors import UserError
from msn_mm.visualization.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    new_figure,
    save_png,
    tidy,
)

Curve = list[tuple[float, float]]


@dataclass
class History:
    """Logged scalars of a run, by name, as (time, value) in order.

    Attributes:
        train: Scalars of the training steps.
        val: Scalars of the validations.
        unit: What times count: ``epoch`` (training steps lie at fractions) or
            ``iteration``, for runs whose log knows no epochs.
    """

    train: dict[str, Curve] = field(default_factory=dict)
    val: dict[str, Curve] = field(default_factory=dict)
    unit: str = "epoch"


def find_scalars(work_dir: str | Path) -> list[Path]:
    """Return MMEngine's scalar logs of all runs in a directory, oldest first.

    A resumed training writes a directory of its own, named by its start.
    """
    return sorted(Path(work_dir).glob("*/vis_data/scalars.json"))


def read_history(paths: Iterable[str | Path], steps_per_epoch: int | None = None) -> History:
    """Read MMEngine's ``scalars.json`` logs, one JSON object a line, into curves.

    Where a resumed run repeats steps of the one before it, the later value
    counts. A line cut off by a kill is passed over.

    Args:
        paths: The logs, oldest first.
        steps_per_epoch: Iterations an epoch; None derives it from the logs,
            which is exact after some epochs.

    Raises:
        UserError: A log does not exist.
    """
    logs = [_read(Path(path)) for path in paths]
    steps = steps_per_epoch or _steps_per_epoch([record for log in logs for record in log])
    train: dict[str, dict[float, float]] = {}
    val: dict[str, dict[float, float]] = {}
    for log in logs:
        for record in log:
            # MMEngine logs a training step with its iteration, a validation
            # with the number of epochs as its step
            if "iter" in record:
                chosen, at = train, record["iter"] / (steps or 1.0)
            else:
                chosen, at = val, record.get("step", 0)
            for name, value in record.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    chosen.setdefault(name, {})[float(at)] = float(value)
    return History(_in_order(train), _in_order(val), "epoch" if steps else "iteration")


def plot_training_curves(
    scalars: str | Path | Sequence[str | Path],
    out: str | Path,
    num_prototypes: int | None = None,
    baselines: dict[str, float] | None = None,
    title: str | None = None,
    steps_per_epoch: int | None = None,
) -> History:
    """Draw loss, signs of collapse and low-shot accuracy over epochs.

    Args:
        scalars: One or several ``scalars.json`` logs of MMEngine.
        out: PNG to write.
        num_prototypes: K; draws ln K, where the cross-entropy of a collapsed
            (uniform) output lies.
        baselines: Accuracy in percent of raw pixels by low-shot column (``"1"``,
            ``"5"``, ``"knn"``), drawn as dotted lines of that column's colour.
        title: Title of the picture.
        steps_per_epoch: See :func:`read_history`.

    Returns:
        The curves that were read.

    Raises:
        UserError: A log does not exist or has no loss in it.
    """
    paths = [scalars] if isinstance(scalars, str | Path) else list(scalars)
    history = read_history(paths, steps_per_epoch)
    if "loss" not in history.train:
        raise UserError(f"'{paths[0] if paths else out}' has no logged loss to draw")
    accuracies = {
        name: curve
        for name, curve in history.val.items()
        if name == "knn/top1" or (name.startswith("lowshot/") and name.endswith("_top1"))
    }
    panels = 3 if accuracies else 2
    figure = new_figure(4.4 * panels + (1.1 if accuracies else 0), 3.7)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_loss(axes[0], history, num_prototypes)
    _draw_collapse(axes[1], history, num_prototypes)
    if accuracies:
        _draw_accuracy(axes[2], accuracies, baselines or {})
    end = max(curve[-1][0] for curve in (*history.train.values(), *accuracies.values()))
    for axis in axes:
        axis.set_xlabel(history.unit)
        axis.set_xlim(0, end)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        tidy(axis)
    if title:
        figure.suptitle(title, fontsize=11)
    save_png(figure, out)
    return history


def _draw_loss(axis: Axes, history: History, num_prototypes: int | None) -> None:
    axis.set_title("loss", fontsize=10)
    axis.set_ylabel("nats")
    lines = (("loss", "total", GREY), ("loss_msn", "cross-entropy", BLUE))
    drawn = [
        (history.train[key], label, colour) for key, label, colour in lines if key in history.train
    ]
    for curve, label, colour in drawn:
        _line(axis, curve, colour, label)
    if num_prototypes is not None:
        level = math.log(num_prototypes)
        axis.axhline(level, color=ORANGE, linestyle="--", linewidth=1.2)
        axis.annotate(
            f"ln {num_prototypes} = {level:.2f}: uniform output (collapse)",
            (0.99, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=ORANGE,
        )
    axis.margins(y=0.1)
    axis.legend(frameon=False, fontsize=8)


def _draw_collapse(axis: Axes, history: History, num_prototypes: int | None) -> None:
    axis.set_title("collapse monitor", fontsize=10)
    axis.set_ylabel("1 = no collapse, 0 = collapse")
    lines = [
        ("mean_entropy", 1.0, "entropy of mean prediction / ln K", GREEN),
        ("feature_std", 1.0, "feature standard deviation · √D", ORANGE),
    ]
    if num_prototypes is not None:
        lines.insert(1, ("prototypes_in_use", num_prototypes, "prototypes in use / K", BLUE))
    drawn = [line for line in lines if line[0] in history.train]
    for key, unit, label, colour in drawn:
        curve = [(at, value / unit) for at, value in history.train[key]]
        style = ":" if key == "prototypes_in_use" else "-"
        _line(axis, curve, colour, label, style)
    axis.set_ylim(0, 1.05)
    if drawn:
        axis.legend(frameon=False, fontsize=8)
    else:
        axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center", color=GREY)


def _draw_accuracy(axis: Axes, accuracies: dict[str, Curve], baselines: dict[str, float]) -> None:
    axis.set_title("frozen features", fontsize=10)
    axis.set_ylabel("top-1 accuracy (%)")
    colours = (BLUE, ORANGE, GREEN, PURPLE)
    for colour, (name, curve) in zip(colours, accuracies.items(), strict=False):
        column = "knn" if name.startswith("knn") else name.split("/")[1].split("_")[0]
        plural = "s" if column != "1" else ""
        label = "k-NN, all labels" if column == "knn" else f"{column} label{plural} a class"
        marker = "o" if len(curve) < 40 else ""
        axis.plot(
            *zip(*curve, strict=True),
            color=colour,
            linewidth=1.6,
            label=label,
            marker=marker,
            markersize=3,
            clip_on=False,
        )
        if column in baselines:
            axis.axhline(baselines[column], color=colour, linestyle=":", linewidth=1.2)
    if baselines:
        axis.plot([], [], color=GREY, linestyle=":", linewidth=1.2, label="raw pixels")
    # beside the panel: inside, a baseline may run through it
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(axis: Axes, curve: Curve, colour: str, label: str, style: str = "-") -> None:
    axis.plot(*zip(*curve, strict=True), color=colour, linewidth=1.4, label=label, linestyle=style)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"no scalar log at '{path}'; train first, or name a run's directory")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [record for record in map(_parse, lines) if record]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _steps_per_epoch(records: list[dict[str, Any]]) -> float | None:
    """Iterations an epoch, from lines that carry both; None where no line does.

    A line of epoch e (from 1) has an iteration in ((e - 1) n, e n], so n is
    bounded from both sides; more lines make the bounds tighter.
    """
    pairs = [(r["iter"], r["epoch"]) for r in records if r.get("iter") and r.get("epoch")]
    if not pairs:
        return None
    lowest = max(step / epoch for step, epoch in pairs)
    highest = min(((step - 1) / (epoch - 1) for step, epoch in pairs if epoch > 1), default=lowest)
    return float(math.ceil(lowest)) if math.ceil(lowest) <= highest else max(lowest, 1.0)


def _in_order(curves: dict[str, dict[float, float]]) -> dict[str, Curve]:
    return {name: sorted(points.items()) for name, points in curves.items()}
