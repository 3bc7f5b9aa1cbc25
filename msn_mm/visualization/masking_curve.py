"""The picture of masking invariance: cosine similarity over the share of hidden patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from msn_mm.visualization.style import GREY, SERIES, new_figure, save_png, tidy

_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)))


def plot_masking_curves(
    rows: Mapping[str, Mapping[str, Any]],
    out: str | Path,
    published: Mapping[str, Mapping[str, float]] | None = None,
    title: str | None = None,
) -> None:
    """Draw one line a checkpoint, its spread over images, and its reference.

    The dashed line of a checkpoint is the mean cosine of different images: an
    invariance that does not rise above it says nothing.

    Args:
        rows: Name of a checkpoint to what
            :func:`msn_mm.evaluation.masking.masking_invariance` returned.
        out: PNG to write, whole or not at all.
        published: Name to ``{ratio: cosine}`` of others' measurements, drawn as
            hollow grey markers.
        title: Title of the picture.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not rows:
        raise ValueError("no masking invariance to draw")
    figure = new_figure(6.4, 4.0)
    axis = figure.subplots()
    ratios: set[float] = set()
    lowest = 0.0
    for number, (name, row) in enumerate(rows.items()):
        # after the colours the line's pattern tells rows apart
        colour = SERIES[number % len(SERIES)]
        style = _STYLES[number // len(SERIES) % len(_STYLES)]
        points = sorted((float(ratio), found) for ratio, found in row["by_ratio"].items())
        at = [ratio for ratio, _ in points]
        mean = [found["mean"] for _, found in points]
        low = [found["mean"] - found["std"] for _, found in points]
        high = [min(1.0, found["mean"] + found["std"]) for _, found in points]
        axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.plot(
            at,
            mean,
            color=colour,
            linestyle=style,
            linewidth=1.8,
            marker="o",
            markersize=4.5,
            label=name,
            clip_on=False,
            zorder=3,
        )
        axis.axhline(row["different_images"], color=colour, linestyle="--", linewidth=1.1)
        ratios.update(at)
        lowest = min(lowest, row["different_images"], *low)
    for (name, values), marker in zip((published or {}).items(), "sD^v<>", strict=False):
        found = sorted((float(ratio), value) for ratio, value in values.items())
        axis.plot(
            *zip(*found, strict=True),
            color=GREY,
            linestyle="none",
            marker=marker,
            markerfacecolor="white",
            markersize=5.5,
            label=f"{name} (published)",
            zorder=4,
        )
        lowest = min(lowest, *values.values())
    axis.set_xlabel("patches hidden")
    axis.set_ylabel("cosine similarity to the whole image")
    axis.set_xlim(0, 1)
    axis.set_xticks(sorted(ratios), minor=False)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axis.set_ylim(max(-1.0, lowest - 0.05) if lowest < 0 else 0, 1.0)
    tidy(axis)
    handles = axis.get_legend_handles_labels()[0] + [
        Patch(color=GREY, alpha=0.25, linewidth=0, label="± 1 std over images"),
        Line2D([], [], color=GREY, linestyle="--", linewidth=1.1, label="different images"),
    ]
    # beside the panel: inside, a line may run through it
    axis.legend(
        handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    if title:
        axis.set_title(title, fontsize=10)
    save_png(figure, out)
