"""Line charts: the loss of a run over its steps, or a metric over its epochs."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cutline.report.charts.axis import Axis, make_axis, make_exact_axis
from cutline.report.charts.labels import LINE, separate_labels
from cutline.report.charts.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Dot,
    Label,
    LegendEntry,
    Path,
    Plot,
    Point,
    Readout,
    make_path,
)
from cutline.report.numbers import format_number

MAX_POINTS = 400
"""points of a line; a longer one is averaged over neighboring points"""
MAX_SERIES = 8
"""colors of the style sheet, which repeat afterwards"""
SPIKE_SHARE = 0.03
"""points of a noisy line that may leave the chart"""
SPIKE_RATIO = 2
"""how much wider the range of a noisy line must be with these points than without them"""
MIN_SPIKE_POINTS = 20
"""points of a noisy line, below which all of them are in the chart"""


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    points: Sequence[Point]
    """pairs (x, y) in any order; those that are not finite are left out"""
    is_noisy: bool = False
    """draw the points as a faint line, and a smoothed one as a strong one; a few spikes may end at
    the edge of the chart"""
    has_dots: bool = False
    """draw a dot at each point"""


@dataclass(frozen=True)
class Marker:
    """A point that is marked, such as the best evaluation."""

    x: float
    y: float
    label: str = ""


@dataclass(frozen=True)
class LineChart:
    """Lines over a common x axis."""

    title: str
    series: Sequence[Series]
    x_label: str
    y_label: str
    markers: Sequence[Marker] = ()
    is_log: bool = False
    """use a logarithmic x axis, and leave out points with x <= 0"""
    y_start: float | None = None
    """value that the y axis includes, such as 0"""
    min_span: float = 0
    """range that the y axis has at least, so that noise does not look like a trend"""

    def plot(self) -> Plot:
        """Return what is drawn."""
        lines = [
            (number, _Curve(series, self.is_log))
            for number, series in enumerate(self.series)
            if _select_points(series.points, self.is_log)
        ]
        curves = [curve for _, curve in lines]
        if not curves:
            return Plot(self.title, self.x_label, self.y_label)
        x_axis, y_axis = self._make_axes(curves)
        paths, dots = [], []
        for number, curve in lines:
            color = f"s{number % MAX_SERIES}"
            if curve.series.is_noisy:
                paths.append(_draw(curve.points, x_axis, y_axis, f"faint {color}"))
            paths.append(_draw(curve.smoothed, x_axis, y_axis, f"line {color}"))
            if curve.series.has_dots or len(curve.points) == 1:
                dots += [Dot(x_axis.place(x), y_axis.place(y), color) for x, y in curve.smoothed]
        marked = [self._place_marker(each, x_axis, y_axis) for each in self._finite_markers]
        marked_dots = [dot for dot, _ in marked]
        named = [(dot, label) for dot, label in marked if label.text]
        labels = separate_labels([label for _, label in named], marked_dots)
        paths += _draw_leaders([dot for dot, _ in named], labels)
        return Plot(
            self.title,
            self.x_label,
            self.y_label,
            x_axis.ticks,
            y_axis.ticks,
            paths,
            dots=[*dots, *marked_dots],
            labels=labels,
            readouts=self._make_readouts(curves, x_axis),
            legend=self._make_legend(lines),
        )

    @property
    def _finite_markers(self) -> list[Marker]:
        return [each for each in self.markers if math.isfinite(each.x) and math.isfinite(each.y)]

    def _make_axes(self, curves: "Sequence[_Curve]") -> tuple[Axis, Axis]:
        xs = [x for curve in curves for x in curve.x_range]
        ys = [y for curve in curves for y in curve.y_range]
        ys += [marker.y for marker in self._finite_markers]
        if self.y_start is not None:
            ys.append(self.y_start)
        x_axis = make_exact_axis(min(xs), max(xs), LEFT, RIGHT, self.is_log)
        return x_axis, make_axis(min(ys), max(ys), BOTTOM, TOP, self.min_span)

    def _place_marker(self, marker: Marker, x_axis: Axis, y_axis: Axis) -> tuple[Dot, Label]:
        x = x_axis.place(math.log10(marker.x) if self.is_log else marker.x)
        y = y_axis.place(marker.y)
        end = "end" if x > (LEFT + RIGHT) / 2 else ""
        offset = -8 if end else 8
        below = y < TOP + 16
        return Dot(x, y, "marked"), Label(x + offset, y + (18 if below else -9), marker.label, end)

    def _make_legend(self, lines: "Sequence[tuple[int, _Curve]]") -> list[LegendEntry]:
        if len(self.series) < 2:
            return []
        return [LegendEntry(curve.series.name, f"s{n % MAX_SERIES}") for n, curve in lines]

    def _make_readouts(self, curves: "Sequence[_Curve]", x_axis: Axis) -> list[Readout]:
        xs = sorted({x for curve in curves for x, _ in curve.points})
        stride = math.ceil(len(xs) / MAX_POINTS)
        readouts = []
        for x in xs[::stride]:
            shown = format_number(10**x if self.is_log else x)
            values = [curve.describe_value(x, x_axis, len(curves) > 1) for curve in curves]
            lines = [f"{self.x_label} {shown}", *filter(None, values)]
            readouts.append(Readout(x_axis.place(x), "\n".join(lines)))
        return readouts


@dataclass(frozen=True)
class _Curve:
    """A series with its points in order, averaged to at most MAX_POINTS."""

    series: Series
    is_log: bool
    points: list[Point] = field(init=False)
    smoothed: list[Point] = field(init=False)
    x_range: Point = field(init=False)
    """first and last x, before averaging"""

    def __post_init__(self) -> None:
        given = _select_points(self.series.points, self.is_log)
        points = _downsample(given)
        object.__setattr__(self, "points", points)
        smoothed = _smooth(points) if self.series.is_noisy else points
        object.__setattr__(self, "smoothed", smoothed)
        object.__setattr__(self, "x_range", (given[0][0], given[-1][0]))

    @property
    def y_range(self) -> Point:
        """Return the lowest and highest y; for a noisy line, without the spikes that dwarf it."""
        ys = sorted(y for _, y in self.points)
        if not self.series.is_noisy:
            return ys[0], ys[-1]
        count = math.ceil(SPIKE_SHARE * len(ys)) if len(ys) >= MIN_SPIKE_POINTS else 0
        shown = [ys[count], ys[-1 - count], self.points[0][1], self.points[-1][1]]
        shown += [y for _, y in self.smoothed]
        low, high = min(shown), max(shown)
        is_dwarfed = ys[-1] - ys[0] > SPIKE_RATIO * (high - low)
        return (low, high) if is_dwarfed else (ys[0], ys[-1])

    def describe_value(self, x: float, x_axis: Axis, has_name: bool) -> str:
        """Return the value at the point that is closest to x, or "" if none is within reach."""
        index = bisect.bisect_left(self.points, (x,))
        near = min(
            range(max(0, index - 1), min(len(self.points), index + 1)),
            key=lambda i: abs(self.points[i][0] - x),
        )
        if abs(x_axis.place(self.points[near][0]) - x_axis.place(x)) > 3:
            return ""
        value = format_number(self.points[near][1])
        if self.series.is_noisy and len(self.points) > 1:
            value += f" (smoothed {format_number(self.smoothed[near][1])})"
        return f"{self.series.name}: {value}" if has_name else value


def _draw(points: Sequence[Point], x_axis: Axis, y_axis: Axis, css: str) -> Path:
    low, high = y_axis.low, y_axis.high
    places = ((x_axis.place(x), y_axis.place(min(max(y, low), high))) for x, y in points)
    return Path(make_path(places), css)


def _draw_leaders(dots: Sequence[Dot], labels: Sequence[Label]) -> list[Path]:
    """Return lines from marked points to the labels that are not beside them."""
    return [
        Path(make_path([(dot.x, dot.y), (dot.x, label.y - 4), (label.x, label.y - 4)]), "leader")
        for dot, label in zip(dots, labels, strict=True)
        if abs(label.y - dot.y) > LINE
    ]


def _select_points(points: Sequence[Point], is_log: bool) -> list[Point]:
    """Return the points that can be drawn, sorted by x; on a log axis, x is a logarithm."""
    finite = ((float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y))
    if is_log:
        return sorted((math.log10(x), y) for x, y in finite if x > 0)
    return sorted(finite)


def _downsample(points: list[Point]) -> list[Point]:
    """Return at most MAX_POINTS means of neighboring points."""
    stride = math.ceil(len(points) / MAX_POINTS) or 1
    return [_average(points[i : i + stride]) for i in range(0, len(points), stride)]


def _smooth(points: list[Point]) -> list[Point]:
    """Return running means of y, without spikes; the window is about a twentieth of all points."""
    half_window = max(len(points) // 40, len(points) >= MIN_SPIKE_POINTS)
    windows = [points[max(i - half_window, 0) : i + half_window + 1] for i in range(len(points))]
    return [(x, _average_middle(window)) for (x, _), window in zip(points, windows, strict=True)]


def _average_middle(points: Sequence[Point]) -> float:
    """Return the mean of the middle half of y."""
    ys = sorted(y for _, y in points)
    cut = min(math.ceil(len(ys) / 4), (len(ys) - 1) // 2)
    middle = ys[cut : len(ys) - cut]
    return math.fsum(middle) / len(middle)


def _average(points: Sequence[Point]) -> Point:
    count = len(points)
    return math.fsum(x for x, _ in points) / count, math.fsum(y for _, y in points) / count
