"""The curve of recognised samples over the share of hidden patches, a line an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.ticker import PercentFormatter

from msn_mm.visualization.style import GREY, SERIES, new_figure, save_png, tidy


def plot_recognition(
    rows: Mapping[str, Mapping[float, float]], chance: float, accuracy: float, out: str | Path
) -> None:
    """Draw the curves.

    Args:
        rows: Name of an encoder to ``{mask ratio: percent recognised}``.
        chance: Percent of a guess.
        accuracy: Percent of real images that the classifier recognises.
        out: PNG to write, whole or not at all.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not rows:
        raise ValueError("no recognition to draw")
    figure = new_figure(5.6, 3.6)
    axis = figure.subplots()
    for number, (name, row) in enumerate(rows.items()):
        points = sorted(row.items())
        axis.plot(
            *zip(*points, strict=True),
            color=SERIES[number % len(SERIES)],
            marker="o",
            markersize=4.5,
            linewidth=1.8,
            label=name,
            clip_on=False,
            zorder=3,
        )
    axis.axhline(accuracy, color=GREY, linestyle=":", linewidth=1.1, label="real images")
    axis.axhline(chance, color=GREY, linestyle="--", linewidth=1.1, label="chance")
    axis.set(xlabel="patches hidden", ylabel="samples recognised", xlim=(0, 1), ylim=(0, 100))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axis.yaxis.set_major_formatter(PercentFormatter(100.0, decimals=0))
    tidy(axis)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_png(figure, out)
