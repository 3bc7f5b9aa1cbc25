"""The picture of corruption errors: by corruption, and by severity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msn_mm.evaluation.robustness.protocol import by_severity
from msn_mm.visualization.style import GREY, SERIES, new_figure, save_png, tidy

_MARKERS = "osD^v<>"


def plot_corruptions(
    rows: Mapping[str, Mapping[str, Any]],
    out: str | Path,
    reference: tuple[str, Mapping[str, float]] | None = None,
    title: str | None = None,
) -> None:
    """Draw the error of each classifier by corruption, and its mean by severity.

    Args:
        rows: Name of a classifier to what
            :func:`msn_mm.evaluation.robustness.protocol.by_corruption` returned;
            a ``clean_error`` is drawn as severity 0.
        out: PNG to write, whole or not at all.
        reference: Name and errors by corruption of another's measurement, drawn
            as hollow grey markers.
        title: Title of the picture.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not rows:
        raise ValueError("no corruption errors to draw")
    first = next(iter(rows.values()))
    names = list(first["corruptions"])
    figure = new_figure(9.2, max(3.0, 0.3 * len(names) + 1.2))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    places = range(len(names))
    if reference is not None:
        label, errors = reference
        left.plot(
            [errors[name] for name in names],
            places,
            color=GREY,
            linestyle="none",
            marker="D",
            markerfacecolor="white",
            markersize=5.5,
            label=f"{label} (published)",
        )
    for number, (name, row) in enumerate(rows.items()):
        look = {
            "color": SERIES[number % len(SERIES)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "markersize": 5.5,
        }
        errors_of = [row["corruptions"][corruption]["error"] for corruption in names]
        left.plot(errors_of, places, linestyle="none", label=name, zorder=3, clip_on=False, **look)
        at = list(row["severities"])
        means = by_severity(row)
        if "clean_error" in row:
            at, means = [0, *at], [row["clean_error"], *means]
        right.plot(at, means, linewidth=1.8, zorder=3, clip_on=False, **look)
    left.set_yticks(places, [name.replace("_", " ") for name in names])
    left.invert_yaxis()
    left.set_xlabel("error, mean over severities (%)")
    left.set_xlim(0, 100)
    right.set_xlabel("severity" + (" (0: not corrupted)" if "clean_error" in first else ""))
    right.set_ylabel("error, mean over corruptions (%)")
    right.set_ylim(0, 100)
    right.set_xticks(([0] if "clean_error" in first else []) + list(first["severities"]))
    for axis in (left, right):
        tidy(axis)
    left.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    # below the panels: inside, a marker may lie under it
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    if title:
        figure.suptitle(title, fontsize=10)
    save_png(figure, out)
