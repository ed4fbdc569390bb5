"""Charts of a report, drawn as SVG: curves and histograms."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

Point = tuple[float, float]

MAX_POINTS = 400
"""maximum number of points of a curve; a longer one is averaged over neighboring points"""
MAX_BARS = 100
"""maximum number of bars of a histogram; over a wider range, each bar covers several integers"""

_WIDTH, _HEIGHT = 720, 384
_DIAGONAL = ((0.0, 0.0), (1.0, 1.0))
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 704.0, 88.0, 312.0  # edges of the plot


def render_curve(
    points: Sequence[Point], title: str, x_label: str, y_label: str, log_x: bool = False
) -> str:
    """Return a line chart: the points as a faint line, and their running mean as a strong one.

    The last value of the running mean is printed beside it.

    Args:
        points: Pairs (x, y) in any order; those that are not finite are left out.
        title: Title of the chart.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        log_x: Use a logarithmic x axis, and leave out points with x <= 0.
    """
    finite = sorted(
        (float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)
    )
    if log_x:
        finite = [(math.log10(x), y) for x, y in finite if x > 0]
    return _render_chart(_plot_curve(finite, log_x) if finite else [], title, x_label, y_label)


def render_reliability(
    before: Sequence[Point], after: Sequence[Point], title: str, x_label: str, y_label: str
) -> str:
    """Return a reliability diagram: how often predictions of some probability are right.

    Points on the diagonal are calibrated; below it, predictions are right less often than they say.

    Args:
        before: Pairs (probability, share that is right), drawn as a faint line.
        after: Those after calibration, drawn as a strong line.
        title: Title of the chart.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
    """
    return _render_chart(_plot_reliability(before, after), title, x_label, y_label)


def render_histogram(
    counts: Mapping[int, int], title: str, x_label: str, y_label: str, unit: float = 1
) -> str:
    """Return a chart with a bar for the count of each integer, `{3: 10, 4: 2}`.

    Args:
        counts: Counts by integer.
        title: Title of the chart.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        unit: What the integers are multiplied by, as in 0.1 for tenths.
    """
    return _render_chart(_plot_bars(counts, unit) if counts else [], title, x_label, y_label)


def _render_chart(plot: list[str], title: str, x_label: str, y_label: str) -> str:
    labels = [
        _render_text(0, 26, title, "title"),
        _render_text(0, 58, y_label, "label"),
        _render_text(_RIGHT, _HEIGHT - 12, x_label, "label end"),
    ]
    content = "".join(labels + (plot or [_render_text(_LEFT, 160, "no data", "label")]))
    return (
        f'<div class="chart"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{content}</svg></div>'
    )


def _plot_curve(points: list[Point], log_x: bool) -> list[str]:
    """Return the grid, the lines and the last value of one or more points, sorted by x.

    If `log_x` is set, x is already a logarithm, and the axis is labeled with powers of 10.
    """
    downsampled = _downsample(points)
    smoothed = _smooth(downsampled)
    xs, ys = [x for x, _ in points], [y for _, y in downsampled]
    x_ticks = (_make_log_ticks if log_x else _make_ticks)(min(xs), max(xs))
    y_ticks = _make_ticks(min(ys), max(ys))
    low, high = (min(xs), max(xs)) if len(set(xs)) > 1 else (x_ticks[0], x_ticks[-1])

    def to_pixels(point: Point) -> Point:
        x = _LEFT + (point[0] - low) / (high - low) * (_RIGHT - _LEFT)
        y = _BOTTOM - (point[1] - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_BOTTOM - _TOP)
        return x, y

    tolerance = 1e-9  # 10 ** -5 differs from 1e-05 in the last digit
    grid = [_render_grid_line(to_pixels((low, y))[1], y) for y in y_ticks]
    for tick in x_ticks:
        if low - tolerance <= tick <= high + tolerance:
            label = _format_number(10**tick if log_x else tick)
            grid.append(_render_text(to_pixels((tick, 0))[0], _BOTTOM + 28, label, "middle"))
    faint, strong = _make_path(map(to_pixels, downsampled)), _make_path(map(to_pixels, smoothed))
    x, y = to_pixels(smoothed[-1])
    first_x = to_pixels(downsampled[0])[0]
    return [
        *grid,
        f'<path class="area" d="{strong}L{x:.1f} {_BOTTOM}L{first_x:.1f} {_BOTTOM}Z"/>',
        f'<path class="faint" d="{faint}"/>',
        f'<path class="strong" d="{strong}"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
        _render_text(x, y - 14, _format_number(smoothed[-1][1]), "last end"),
    ]


def _plot_reliability(before: Sequence[Point], after: Sequence[Point]) -> list[str]:
    """Return the grid, the diagonal, both lines, and their names at the top."""
    ticks = [tick / 5 for tick in range(6)]
    size = _RIGHT - _LEFT, _BOTTOM - _TOP

    def to_pixels(point: Point) -> Point:
        return _LEFT + point[0] * size[0], _BOTTOM - point[1] * size[1]

    grid = [_render_grid_line(to_pixels((0, tick))[1], tick) for tick in ticks]
    grid += [
        _render_text(to_pixels((tick, 0))[0], _BOTTOM + 28, _format_number(tick), "middle")
        for tick in ticks
    ]
    circles = [to_pixels(point) for point in after]
    diagonal = _make_path(map(to_pixels, _DIAGONAL))
    return [
        *grid,
        f'<path class="faint" stroke-dasharray="6 6" d="{diagonal}"/>',
        *(
            f'<path class="{css_class}" d="{_make_path(map(to_pixels, points))}"/>'
            for css_class, points in (("faint", before), ("strong", after))
        ),
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>' for x, y in circles),
        _render_text(_RIGHT, 58, "faint: before; strong: after; dashed: calibrated", "label end"),
    ]


def _plot_bars(counts: Mapping[int, int], unit: float) -> list[str]:
    """Return the grid, the labels and the bars of one or more integers."""
    low, high = min(counts), max(counts)
    bin_width = math.ceil((high - low + 1) / MAX_BARS)  # integers per bar
    bin_counts = [0] * math.ceil((high - low + 1) / bin_width)
    for number, count in counts.items():
        bin_counts[(number - low) // bin_width] += count
    y_ticks, width = _make_ticks(0, max(bin_counts)), (_RIGHT - _LEFT) / len(bin_counts)
    scale = y_ticks[-1]
    grid = [_render_grid_line(_BOTTOM - y / scale * (_BOTTOM - _TOP), y) for y in y_ticks]
    labels, bars = [], []
    for i in range(0, len(bin_counts), math.ceil(len(bin_counts) / 10)):
        center, label = _LEFT + (i + 0.5) * width, _format_number((low + i * bin_width) * unit)
        labels.append(_render_text(center, _BOTTOM + 28, label, "middle"))
    for i, count in enumerate(bin_counts):
        x, height = _LEFT + i * width + width / 10, count / scale * (_BOTTOM - _TOP)
        bars.append(
            f'<rect x="{x:.1f}" y="{_BOTTOM - height:.1f}" '
            f'width="{width * 0.8:.1f}" height="{height:.1f}"/>'
        )
    return [*grid, *labels, *bars]


def _render_grid_line(y: float, value: float) -> str:
    line = f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _render_text(_LEFT - 12, y + 6, _format_number(value), "end")


def _render_text(x: float, y: float, text: str, css_class: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css_class}">{escape(text)}</text>'


def _make_path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _format_number(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.6g}"


def _make_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that cover the range from `low` to `high`."""
    # A quarter of the range; if it is empty, a small step relative to the values. It is rounded up
    # to 1, 2, 5 or 10 times a power of 10.
    rough_step = max((high - low) / 4, 1e-9 * max(abs(low), abs(high))) or 0.25
    power = 10.0 ** math.floor(math.log10(rough_step))
    step = next(
        (factor * power for factor in (1, 2, 5) if factor * power >= rough_step), 10 * power
    )
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _make_log_ticks(low: float, high: float) -> list[float]:
    """Return logarithms of round numbers that cover the range from 10**low to 10**high.

    They are powers of 10, and in a short range also 2 and 5 times these.
    """
    factors = (1,) if high - low > 2 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [power + math.log10(factor) for power in powers for factor in factors]


def _downsample(points: list[Point]) -> list[Point]:
    """Return at most MAX_POINTS means of neighboring points."""
    stride = math.ceil(len(points) / MAX_POINTS) or 1
    return [_average(points[i : i + stride]) for i in range(0, len(points), stride)]


def _smooth(points: list[Point]) -> list[Point]:
    """Return the running mean of y; the window is about a twentieth of all points."""
    half_window = len(points) // 40
    windows = [points[max(i - half_window, 0) : i + half_window + 1] for i in range(len(points))]
    return [(x, _average(window)[1]) for (x, _), window in zip(points, windows, strict=True)]


def _average(points: Sequence[Point]) -> Point:
    count = len(points)
    return math.fsum(x for x, _ in points) / count, math.fsum(y for _, y in points) / count
