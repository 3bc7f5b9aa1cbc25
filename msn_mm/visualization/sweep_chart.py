"""The picture of a sweep: one panel a column of its table, one line a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msn_mm.visualization.style import BLUE, GREY, ORANGE, new_figure, save_png, tidy

_COLOURS = {"raw_pixels": ORANGE, "untrained": GREY}
_MARKERS = {"raw_pixels": "D", "untrained": "s"}


def plot_sweep(
    rows: Mapping[str, Mapping[str, Any]],
    headings: Mapping[str, str],
    out: str | Path,
    title: str | None = None,
) -> None:
    """Draw the accuracies of a sweep, each seed and the mean ± standard deviation.

    Args:
        rows: By label ``kind`` (``run``, ``raw_pixels``, ``untrained``) and
            ``columns``, by column ``top1`` (one a seed), ``top1_mean`` and,
            of several seeds, ``top1_std``. Rows without columns stay empty.
        headings: By column the title of its panel.
        out: PNG to write, whole or not at all.
        title: Title of the picture.

    Raises:
        ValueError: There is nothing to draw.
    """
    drawn = [label for label, row in rows.items() if row.get("columns")]
    if not drawn or not headings:
        raise ValueError("no accuracies to draw")
    figure = new_figure(2.2 + 2.3 * len(headings), max(2.4, 0.3 * len(rows) + 1.3))
    axes = figure.subplots(1, len(headings), sharey=True, squeeze=False)[0]
    for axis, (column, heading) in zip(axes, headings.items(), strict=True):
        for place, row in enumerate(rows.values()):
            values = (row.get("columns") or {}).get(column)
            if values is None:
                continue
            colour = _COLOURS.get(row["kind"], BLUE)
            axis.plot(
                values["top1"],
                [place] * len(values["top1"]),
                color=colour,
                linestyle="none",
                marker="|",
                markersize=7,
                alpha=0.6,
            )
            axis.errorbar(
                values["top1_mean"],
                place,
                xerr=values.get("top1_std"),
                color=colour,
                marker=_MARKERS.get(row["kind"], "o"),
                markersize=5.5,
                capsize=3,
                linewidth=1.4,
                zorder=3,
            )
            if row["kind"] == "raw_pixels":
                axis.axvline(values["top1_mean"], color=colour, linestyle="--", linewidth=1.0)
        axis.set_title(heading, fontsize=9)
        axis.set_xlabel("top-1 (%)")
        tidy(axis)
        axis.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), list(rows))
    axes[0].invert_yaxis()
    if title:
        figure.suptitle(title, fontsize=10)
    save_png(figure, out)
