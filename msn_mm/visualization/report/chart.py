"""Line charts as SVG in the page: drawn here, coloured by the style sheet, read by the script.

Drawn by hand and not by a plotting library in the browser, because that would
add 1 to 4 MB to every page, show nothing without a script and print badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from msn_mm.visualization.curves import Curve
from msn_mm.visualization.page_parts import Markup, csv_of, embedded_json, joined

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 408, 12, 214
# Of a digit in the widest usual font, at the 13 pixels of the style sheet.
_DIGIT = 8.3
# Such axes have no places between two numbers that a reader could go by.
_COUNTS = ("epoch", "iteration")
COLOURS = 10
At = Callable[[float, float], tuple[float, float]]
"""From values to the place of a point in the drawing."""
# More points than pixels show nothing more.
MOST_POINTS = 500


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: What the legend calls it.
        points: (x, y), x ascending.
        spread: Half the height of a band around each point; empty for none.
    """

    name: str
    points: Curve
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Level:
    """A horizontal line; what it means stands in the legend, where no curve runs through it."""

    value: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        title: Its heading.
        series: The lines.
        x_label: What x counts.
        y_label: What y measures.
        levels: Levels to compare with.
        y_range: Fixed range of y; default: that of the data.
        dots: Mark the points.
        dashes: Give neighbours other patterns too: lines of two trainings may hide each other.
    """

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    levels: Sequence[Level] = ()
    y_range: tuple[float, float] | None = None
    dots: bool = False
    dashes: bool = False

    def csv(self) -> str:
        """Return the points that are drawn: series, x, y."""
        rows = [(s.name, x, y) for s in self.series for x, y in thin(s.points)]
        return csv_of(["series", self.x_label, self.y_label], rows)


def thin(points: Curve, most: int = MOST_POINTS) -> Curve:
    """Return at most about ``most`` points at equal steps, the last one among them."""
    step = -(-len(points) // most) or 1
    kept = points[::step]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def draw(chart: Chart) -> Markup:
    """Return a chart as a figure of the page.

    Raises:
        ValueError: There is nothing to draw.
    """
    series = [Series(s.name, thin(s.points), s.spread) for s in chart.series if s.points]
    if not series:
        raise ValueError(f"the chart '{chart.title}' has no points")
    x_low, x_high = _from_zero(*_extent([x for s in series for x, _ in s.points]))
    heights = [y for s in series for _, y in s.points] + [level.value for level in chart.levels]
    for s in series:
        heights += [y + e for (_, y), e in zip(s.points, s.spread, strict=False)]
        heights += [y - e for (_, y), e in zip(s.points, s.spread, strict=False)]
    y_low, y_high = chart.y_range or _padded(*_extent(heights))
    y_ticks = [y for y in _ticks(y_low, y_high) if y_low <= y <= y_high]
    x_ticks = _ticks(x_low, x_high, whole=chart.x_label in _COUNTS)
    x_ticks = [x for x in x_ticks if x_low <= x <= x_high]
    y_texts = _numbers(y_ticks)
    left = max(_LEFT, round(_DIGIT * max(map(len, y_texts), default=0)) + 9)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (min(max(y, y_low), y_high) - y_low) / ((y_high - y_low) or 1)
        return left + across * (_RIGHT - left), _BOTTOM - up * (_BOTTOM - _TOP)

    parts = [
        Markup(
            '<svg class="plot" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}">'
        ).format(_WIDTH, _HEIGHT, _spoken(chart, series))
    ]
    for tick, text in zip(y_ticks, y_texts, strict=True):
        y = at(x_low, tick)[1]
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(left, _RIGHT, left - 7, _px(y + 4), text, y=_px(y))
        )
    for tick, text in zip(x_ticks, _numbers(x_ticks), strict=True):
        # A long number at the right end stays within the drawing.
        x = min(at(tick, y_low)[0], _WIDTH - _DIGIT * len(text) / 2)
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                _px(x), _BOTTOM + 16, text
            )
        )
    parts.append(
        Markup(
            '<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
            '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        ).format(left, _RIGHT, (left + _RIGHT) / 2, _BOTTOM + 33, chart.x_label, y=_BOTTOM)
    )
    parts += [_line(place, s, at, chart) for place, s in enumerate(series)]
    for level in chart.levels:
        y = at(x_low, level.value)[1]
        parts.append(
            Markup('<line class="level" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                left, _RIGHT, y=_px(y)
            )
        )
    parts.append(
        Markup('<line class="cursor" x1="0" x2="0" y1="{}" y2="{}"/></svg>').format(_TOP, _BOTTOM)
    )
    places = sorted({x for s in series for x, _ in s.points})
    data = {
        "x_label": chart.x_label,
        "x_range": [x_low, x_high],
        "x_pixels": [left, _RIGHT],
        "reach": (places[-1] - places[0]) / max(len(places) - 1, 1) * 0.75,
        "series": [
            {"x": [_short(x) for x, _ in s.points], "y": [_short(y) for _, y in s.points]}
            for s in series
        ],
    }
    return Markup(
        '<figure class="chart"><h3>{}</h3><figcaption>{}</figcaption>{}'
        '<p class="at" aria-live="polite"></p><ul class="legend">{}</ul>{}</figure>\n'
    ).format(
        chart.title,
        chart.y_label,
        joined(parts),
        joined(
            [
                *(_legend(_look(place, chart.dashes), s.name) for place, s in enumerate(series)),
                *(_level_legend(level) for level in chart.levels),
            ]
        ),
        embedded_json(data),
    )


def grid(charts: Sequence[Chart]) -> Markup:
    """Return charts side by side, as many as there is room for."""
    return Markup('<div class="charts">{}</div>\n').format(joined(map(draw, charts)))


def _line(place: int, series: Series, at: At, chart: Chart) -> Markup:
    look = _look(place, chart.dashes)
    parts = []
    if series.spread:
        pairs = list(zip(series.points, series.spread, strict=False))
        outline = [at(x, y + e) for (x, y), e in pairs] + [
            at(x, y - e) for (x, y), e in pairs[::-1]
        ]
        parts.append(Markup('<path class="band {}" d="M{}Z"/>').format(look, _path(outline)))
    points = [at(x, y) for x, y in series.points]
    parts.append(Markup('<path class="line {}" d="M{}"/>').format(look, _path(points)))
    if chart.dots or len(points) == 1:
        parts += [
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.4"/>').format(look, _px(x), _px(y))
            for x, y in points
        ]
    return joined(parts)


def _legend(look: str, name: str) -> Markup:
    return Markup(
        '<li class="{look}"><svg viewBox="0 0 26 10" aria-hidden="true">'
        '<path class="line {look}" d="M0 5H26"/></svg><span>{}</span><output></output></li>'
    ).format(name, look=look)


def _level_legend(level: Level) -> Markup:
    return Markup(
        '<li><svg viewBox="0 0 26 10" aria-hidden="true"><path class="level" d="M0 5H26"/></svg>'
        "<span>{}</span></li>"
    ).format(level.text)


def _look(place: int, dashes: bool) -> str:
    """Colour and pattern of a line; after the colours the pattern alone tells series apart."""
    dash = (place if dashes else place // COLOURS) % 3
    return f"s{place % COLOURS}" + (f" d{dash}" if dash else "")


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{_px(x)} {_px(y)}" for x, y in points)


def _extent(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    return low, high


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return round numbers from ``low`` to ``high``; whole ones where there are two or more."""
    whole = whole and math.floor(high) > math.ceil(low)
    return [float(tick) for tick in MaxNLocator(5, integer=whole).tick_values(low, high)]


def _from_zero(low: float, high: float) -> tuple[float, float]:
    """Begin at 0 what begins near it: epochs, shares."""
    return (0.0 if 0 < low <= 0.2 * high else low), high


def _padded(low: float, high: float) -> tuple[float, float]:
    """Leave room above and below, but not below 0 of what is never negative."""
    room = 0.06 * (high - low)
    return (0.0 if 0 <= low < 2 * room else low - room), high + room


def _numbers(ticks: Sequence[float]) -> list[str]:
    """Word the ticks of an axis, all in one way."""
    largest = max(map(abs, ticks), default=0.0)
    if largest and (largest < 1e-2 or largest >= 1e6):
        exponent = math.floor(math.log10(largest))
        return [f"{tick / 10**exponent:.3g}e{exponent}" if tick else "0" for tick in ticks]
    return [f"{tick:g}" for tick in ticks]


def _short(value: float) -> float:
    """Six digits: what is read off a chart needs no more, and a page is sent around."""
    return float(f"{value:.6g}") if math.isfinite(value) else math.nan


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _spoken(chart: Chart, series: Sequence[Series]) -> str:
    ends = ", ".join(f"{s.name} {s.points[0][1]:.4g} to {s.points[-1][1]:.4g}" for s in series[:6])
    return f"{chart.title}: {chart.y_label} over {chart.x_label}; {ends}. Arrow keys read values."
