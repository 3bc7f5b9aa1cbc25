"""What all pictures share: colours, axes, and how a picture reaches the disk."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msn_mm.utils.results import write_atomically

# Okabe & Ito's palette, told apart with any kind of colour vision
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
SKY, AMBER, BLACK = "#56B4E9", "#E69F00", "#000000"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    return figure


def tidy(axis: Axes) -> None:
    """Leave two spines, and faint lines behind the data to read values by."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)


def save_png(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(Path(path), buffer.getvalue())
