"""Charts of the page, by what a reader sees of them: numbers at the axes, words, ranges."""

from __future__ import annotations

import re

import pytest

from msn_mm.visualization.curves import Curve, History
from msn_mm.visualization.report.chart import Chart, Level, Series, draw
from msn_mm.visualization.report.training_curves import charts_of, overlaid

_TEXT = re.compile(r'<text x="([\d.-]+)" y="([\d.-]+)" text-anchor="(\w+)">([^<]*)</text>')
# Of DejaVu Sans, the widest of the fonts that the style sheet may get, at 13 pixels.
_ADVANCE = 13 * 0.636


def drawn(points: Curve, x_label: str = "epoch", **settings: object) -> str:
    return str(draw(Chart("title", [Series("one", points)], x_label, "y", **settings)))  # type: ignore[arg-type]


def x_ticks(page: str) -> list[float]:
    return [float(text) for _, y, _, text in _TEXT.findall(page) if y == "230"]


@pytest.mark.parametrize(
    "points",
    [
        [(1.0, 0.7631), (4.0, 0.7668)],
        [(1.0, 0.9971), (4.0, 1.0)],
        [(1.0, -0.00121), (4.0, -0.00012)],
        [(20000.0, 5.0), (120000.0, 987654.0)],
    ],
)
def test_numbers_lie_within_the_drawing(points: Curve) -> None:
    page = drawn(points)
    assert 'viewBox="0 0 420 250"' in page
    found = _TEXT.findall(page)
    assert len(found) > 4
    for x, _, anchor, text in found:
        width = _ADVANCE * len(text)
        left = float(x) - (width if anchor == "end" else width / 2)
        assert left >= 0 and left + width <= 420.5, text


def test_epochs_are_whole_where_there_are_two_or_more() -> None:
    assert x_ticks(drawn([(1.0, 1.0), (4.0, 2.0)])) == [1, 2, 3, 4]
    assert x_ticks(drawn([(2.0, 1.0), (4.0, 2.0)])) == [2, 3, 4]
    assert all(tick.is_integer() for tick in x_ticks(drawn([(0.5, 1.0), (7.3, 2.0)])))
    # within the first epoch, and of what is no count, there are fractions
    assert len(x_ticks(drawn([(0.1, 1.0), (0.9, 2.0)]))) > 2
    assert len(x_ticks(drawn([(0.0, 1.0), (1.0, 2.0)], x_label="masked"))) > 2


def test_the_meaning_of_a_level_stands_in_the_legend() -> None:
    page = drawn([(1.0, 3.6), (4.0, 3.3)], levels=[Level(3.47, "ln 32 = 3.47")])
    plot, _, legend = page.partition("</svg>")
    assert '<line class="level"' in plot and "ln 32" not in plot
    assert re.search(
        r'<ul class="legend">.*<path class="level".*<span>ln 32 = 3\.47</span>', legend
    )
    # an output a line is what the script fills, and a level has none
    assert page.count("<output>") == 1


@pytest.mark.parametrize(
    ("values", "wanted"),
    [((16.4, 20.7), (15.0, 22.0)), ((97.0, 100.0), (96.0, 100.0)), ((0.0, 50.0), (0.0, 53.0))],
)
def test_accuracies_fill_their_chart(
    values: tuple[float, float], wanted: tuple[float, float]
) -> None:
    history = History(
        val={"knn/top1": [(1.0, values[0]), (2.0, values[1])], "val/time": [(1.0, 2)]}
    )
    (chart,), rest = charts_of(history, None)
    assert chart.y_range == wanted and rest == []
    (both,) = overlaid({"a": history, "b": history})
    assert both.y_range == wanted
