"""Charts stay inside their frame, and show what they are given."""

import math
from itertools import pairwise

import pytest
from html_reader import PRINTABLE
from hypothesis import given
from hypothesis import strategies as st

from cutline.report import (
    HistogramChart,
    IntervalChart,
    IntervalRow,
    LineChart,
    Marker,
    ReliabilityDiagram,
    Series,
    find_bin,
)
from cutline.report.charts import Plot
from cutline.report.charts.axis import MIN_SPAN, make_axis, widen_range
from cutline.report.charts.histogram import MAX_BARS
from cutline.report.charts.labels import LINE
from cutline.report.charts.line_chart import MAX_POINTS
from cutline.report.charts.plot import BOTTOM, LEFT, RIGHT, TOP, Point

COORDINATES = st.floats(-1e12, 1e12)
CURVES = st.lists(st.tuples(COORDINATES, COORDINATES), max_size=30)


def read_points(d: str) -> list[Point]:
    pairs = [pair.split() for pair in d.strip("M").split("L")]
    return [(float(x), float(y)) for x, y in pairs]


def draw_line(points: list[Point], **arguments: object) -> Plot:
    series = [Series("loss", points, is_noisy=True)]
    return LineChart("", series, "step", "", **arguments).plot()  # type: ignore[arg-type]


def find_path(plot: Plot, css: str) -> list[Point]:
    [d] = [path.d for path in plot.paths if path.css.startswith(css)]
    return read_points(d)


def assert_inside(plot: Plot) -> None:
    places = [point for path in plot.paths for point in read_points(path.d)]
    places += [(dot.x, dot.y) for dot in plot.dots]
    places += [(bar.x, bar.y) for bar in plot.bars]
    places += [(bar.x + bar.width, bar.y + bar.height) for bar in plot.bars]
    for x, y in places:
        assert plot.left - 1 <= x <= RIGHT + 1
        assert TOP - 9 <= y <= plot.bottom + 1
    for readout in plot.readouts:
        assert plot.left - 1 <= readout.x <= RIGHT + 1


@given(CURVES, CURVES, st.booleans())
def test_lines_are_inside_the_frame(first: list[Point], second: list[Point], is_log: bool) -> None:
    series = [Series("a", first, is_noisy=True), Series("b", second, has_dots=True)]
    plot = LineChart("", series, "step", "loss", is_log=is_log).plot()
    assert_inside(plot)
    assert plot.is_empty == (not any(x > 0 or not is_log for x, _ in (*first, *second)))
    assert all(LEFT <= tick.position <= RIGHT for tick in plot.x_ticks)


@given(CURVES.filter(bool))
def test_lines_rise_where_values_rise(points: list[Point]) -> None:
    heights = [-y for _, y in find_path(draw_line(points), "faint")]
    values = [y for _, y in sorted(points)]
    for (h1, v1), (h2, v2) in pairwise(zip(heights, values, strict=True)):
        assert (v1 <= v2 and h1 <= h2) or (v1 >= v2 and h1 >= h2)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_an_axis_does_not_show_noise_as_a_trend(low: float, size: float) -> None:
    """A narrow range becomes wider, includes the values, and does not pass zero for nothing."""
    high = low + size
    wide_low, wide_high = widen_range(low, high)
    assert wide_low <= low
    assert wide_high >= high
    largest = max(abs(low), abs(high))
    assert wide_high - wide_low >= min(MIN_SPAN * largest, size) * (1 - 1e-9)
    assert wide_low >= 0 or low < 0
    assert wide_high <= 0 or high > 0
    axis = make_axis(1.02, 1.05, BOTTOM, TOP)  # a CIDEr that hardly changes
    assert abs(axis.place(1.05) - axis.place(1.02)) < 0.2 * (BOTTOM - TOP)


def test_an_axis_has_a_least_range() -> None:
    scores = [(0, 0.010), (1, 0.012), (2, 0.011)]
    chart = LineChart("", [Series("CIDEr", scores)], "epoch", "", min_span=0.1)
    heights = [y for _, y in find_path(chart.plot(), "line")]
    assert max(heights) - min(heights) < 0.05 * (BOTTOM - TOP)


@given(
    st.lists(st.floats(1, 2), min_size=100, max_size=MAX_POINTS),
    st.sets(st.sampled_from([13, 40, 77])),
    st.floats(6, 1e6),
)
def test_a_few_spikes_do_not_flatten_a_line(
    losses: list[float], places: set[int], height: float
) -> None:
    """They end at the edge, and the smoothed line does not show them."""
    points = [(float(step), height if step in places else y) for step, y in enumerate(losses)]
    plot = draw_line(points)
    assert_inside(plot)
    assert float(plot.y_ticks[-1].label) <= 2.5
    faint, smoothed = (find_path(plot, css) for css in ("faint", "line"))
    assert all(faint[place][1] == TOP for place in places)
    calm = [y for step, (_, y) in enumerate(faint) if step not in places]
    assert all(min(calm) <= y <= max(calm) for _, y in smoothed)


def test_spikes_that_are_not_rare_or_not_high_are_drawn_whole() -> None:
    calm = [(float(step), 1.0 + step % 2) for step in range(100)]
    for spikes in ([2.5] * 3, [50.0] * 10):
        points = [(x, spikes.pop() if x % 10 == 5 and spikes else y) for x, y in calm]
        top = max(y for _, y in points)
        assert float(draw_line(points).y_ticks[-1].label) >= top


def test_ticks_are_round() -> None:
    plot = draw_line([(step, 1.0) for step in range(1001)])
    assert [tick.label for tick in plot.x_ticks] == ["0", "200", "400", "600", "800", "1,000"]
    assert plot.readouts[-1].text.startswith("step 999.5")
    assert plot.readouts[-1].text.endswith("1 (smoothed 1)")


def test_equal_ratios_are_equally_far_apart_on_a_log_axis() -> None:
    points = [(0.0, 9.0), (-1.0, 9.0), (1e-5, 1.0), (1e-3, 2.0), (1e-1, 1.0)]
    plot = draw_line(points, is_log=True, markers=[Marker(1e-3, 2.0, "here")])
    labels = {tick.label: tick.position for tick in plot.x_ticks}
    assert list(labels) == ["1e-5", "0.0001", "0.001", "0.01", "0.1"]
    gaps = [b - a for a, b in pairwise(labels.values())]
    assert gaps == pytest.approx([gaps[0]] * 4, abs=0.2)
    xs = [x for x, _ in find_path(plot, "faint")]
    assert xs == pytest.approx([labels[name] for name in ("1e-5", "0.001", "0.1")], abs=0.2)
    assert plot.dots[-1].x == pytest.approx(labels["0.001"], abs=0.2)
    assert draw_line([(0.0, 1.0)], is_log=True).is_empty


def test_long_lines_are_averaged_and_keep_their_mean() -> None:
    plot = draw_line([(step, step % 2) for step in range(100_000)])
    faint = find_path(plot, "faint")
    assert MAX_POINTS / 2 < len(faint) - 1 < MAX_POINTS
    assert len({y for _, y in faint}) == 1  # means of 0 1 0 1 …
    assert len(plot.readouts) <= MAX_POINTS


def test_points_that_are_not_finite_are_left_out() -> None:
    finite = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    assert draw_line([*finite, (4.0, math.nan), (math.inf, 1.0)]) == draw_line(finite)


def test_readouts_tell_the_values_of_all_lines_at_a_step() -> None:
    series = [
        Series("training", [(step, 2.0) for step in range(101)]),
        Series("validation", [(0, 3.0), (100, 2.5)], has_dots=True),
    ]
    readouts = LineChart("Loss", series, "step", "").plot().readouts
    assert readouts[0].text == "step 0\ntraining: 2\nvalidation: 3"
    assert readouts[50].text == "step 50\ntraining: 2"
    legend = LineChart("Loss", series, "step", "").plot().legend
    assert [entry.name for entry in legend] == ["training", "validation"]


@given(
    st.dictionaries(st.integers(-1000, 1_000_000), st.integers(1, 1_000_000), max_size=30),
    st.floats(-100, 100),
)
def test_bars_and_limits_are_inside_the_frame(counts: dict[int, int], limit: float) -> None:
    chart = HistogramChart("", {"": counts}, "words", "captions", limits={"limit": limit})
    plot = chart.plot()
    assert_inside(plot)
    assert bool(counts) == bool(plot.bars)
    assert len(plot.bars) <= MAX_BARS + 1
    assert len(plot.paths) == bool(counts)


@given(st.dictionaries(st.integers(0, MAX_BARS - 1), st.integers(1, 100), min_size=1))
def test_bars_are_as_tall_as_their_counts(counts: dict[int, int]) -> None:
    plot = HistogramChart("", {"": counts}, "words", "captions").plot()
    heights = [bar.height for bar in plot.bars]
    scale = max(heights) / max(counts.values())
    numbers = range(min(counts), max(counts) + 1)
    expected = [scale * counts.get(number, 0) for number in numbers]
    assert heights == pytest.approx(expected, abs=0.21)  # written with one decimal
    for number, readout in zip(numbers, plot.readouts, strict=True):
        assert readout.text == f"words {number}\ncaptions: {counts.get(number, 0)}"


def test_neighbors_share_the_bars_of_a_wide_histogram() -> None:
    counts = dict.fromkeys(range(10 * MAX_BARS), 3)
    plot = HistogramChart("", {"": counts}, "words", "captions").plot()
    assert len(plot.bars) == MAX_BARS
    assert len({bar.height for bar in plot.bars}) == 1
    assert plot.readouts[1].text == "words 10 to 19\ncaptions: 30"


def test_histograms_beside_each_other_show_shares() -> None:
    series = {"captions": {5: 1, 6: 3}, "references": {5: 10, 6: 30}}
    plot = HistogramChart("", series, "words", "share").plot()
    first, second, third, fourth = (bar.height for bar in plot.bars)
    assert (first, second) == (third, fourth)
    assert plot.readouts[0].text == "words 5\ncaptions: 25.0 %\nreferences: 25.0 %"


@given(
    st.integers(-50, 10_000),
    st.integers(0, 10_000),
    st.sampled_from([0.01, 0.02, 0.1, 1]),
    st.booleans(),
)
def test_the_ticks_of_a_histogram_are_round(
    low: int, span: int, unit: float, are_ranges: bool
) -> None:
    counts = {low: 1, low + span: 2}
    chart = HistogramChart("", {"": counts}, "", "", unit, are_ranges=are_ranges)
    plot = chart.plot()
    values = [float(tick.label.replace(",", "").replace("−", "-")) for tick in plot.x_ticks]
    assert 1 <= len(values) <= 10
    steps = {round((b - a) / unit) for a, b in pairwise(values)}
    assert len(steps) <= 1
    assert {str(step).strip("0") for step in steps} <= {"1", "2", "5"}
    assert [tick.label for tick in plot.y_ticks] == ["0", "1", "2", "3", "4"]


def test_the_names_of_limits_are_above_the_bars() -> None:
    limits = {"mean": 2.0, "median": 2.0}
    for count in (1, 5, 99, 1000):
        plot = HistogramChart("", {"": {1: count, 2: count}}, "", "", limits=limits).plot()
        assert all(label.y <= bar.y for label in plot.labels for bar in plot.bars)
        assert plot.labels[1].y - plot.labels[0].y >= LINE


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_marker_without_a_place_is_left_out(value: float) -> None:
    markers = [Marker(1, value, "nowhere"), Marker(2, 3, "here")]
    plot = LineChart("", [Series("", [(1, 2), (2, 3)])], "", "", markers).plot()
    assert [label.text for label in plot.labels] == ["here"]


def test_a_limit_stands_between_the_bars_that_it_separates() -> None:
    counts = {29: 1, 30: 1, 31: 1}
    limits = {"at most 30": 30.5, "exactly 31": 31}
    plot = HistogramChart("", {"": counts}, "words", "captions", limits=limits).plot()
    between, through = (read_points(path.d)[0][0] for path in plot.paths)
    assert plot.bars[1].x + plot.bars[1].width < between < plot.bars[2].x
    assert plot.bars[2].x < through < plot.bars[2].x + plot.bars[2].width
    assert [label.text for label in plot.labels] == list(limits)


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.1, 1.0]))
def test_ranges_contain_their_values(number: int, unit: float) -> None:
    for value in (number * unit, (number + 0.5) * unit):
        assert find_bin(value, unit) == number
    assert find_bin(-0.5 * unit, unit) == -1
    assert find_bin(1.0, unit, 1.0) == find_bin(1 - unit / 2, unit)


@given(
    st.dictionaries(st.integers(-300, 100), st.integers(1, 10_000), min_size=1, max_size=30),
    st.integers(-300, 100),
)
def test_ranges_have_edges_at_a_limit(counts: dict[int, int], limit: int) -> None:
    limits = {"limit": limit / 100}
    chart = HistogramChart("", {"": counts}, "score", "", 0.01, are_ranges=True, limits=limits)
    plot = chart.plot()
    assert_inside(plot)
    edges = [read_edges(readout.text) for readout in plot.readouts]
    assert [low for low, _ in edges[1:]] == [high for _, high in edges[:-1]]
    assert edges[-1][1] == pytest.approx(max([limit, *(n + 1 for n in counts)]) / 100)
    assert edges[0][0] >= 0 or min(limit, *counts) < 0
    total = sum(counts.values())
    assert len(plot.bars) <= 2 + min(50, max(10, 2 * math.sqrt(total)))
    (line,) = (read_points(path.d)[0][0] for path in plot.paths)
    below = sum(bar.height for bar in plot.bars if bar.x < line - 0.1)
    share = sum(count for number, count in counts.items() if number < limit) / total
    assert below / sum(bar.height for bar in plot.bars) == pytest.approx(share, abs=0.02)
    shown = [int(readout.text.rpartition(" ")[2].replace(",", "")) for readout in plot.readouts]
    assert sum(shown) == total


def read_edges(text: str) -> tuple[float, ...]:
    """Return the ends of a range, as `score 0.1 to 0.2` tells them."""
    words = text.partition("\n")[0].replace("−", "-").split()
    return float(words[1]), float(words[3])


def test_a_series_without_values_has_no_bars() -> None:
    plot = HistogramChart("", {"a": {3: 0}, "b": {4: 0}}, "words", "texts").plot()
    assert {bar.height for bar in plot.bars} == {0}


def test_a_mean_within_a_range_moves_no_edges() -> None:
    counts = {17: 1, 83: 9}
    limits = {"mean": 0.7741}
    chart = HistogramChart("", {"": counts}, "score", "", 0.01, limits, are_ranges=True)
    edges = [readout.text.split()[1] for readout in chart.plot().readouts]
    assert edges == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]


def test_ranges_are_told_by_their_edges() -> None:
    chart = HistogramChart("", {"": {3: 1, 17: 9}}, "match", "texts", 0.05, are_ranges=True)
    plot = chart.plot()
    assert plot.readouts[0].text == "match 0.1 to 0.2\ntexts: 1"
    assert [tick.label for tick in plot.x_ticks][:2] == ["0.1", "0.2"]


@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(0, 20), st.floats(0, 20)), min_size=1, max_size=9
    )
)
def test_intervals_are_inside_the_frame_and_zero_is_shown(
    rows: list[tuple[float, float, float]],
) -> None:
    chart = IntervalChart("", [IntervalRow("x", v, v - a, v + b, "") for v, a, b in rows], "")
    plot = chart.plot()
    assert_inside(plot)
    [(zero, _), _] = read_points(plot.paths[0].d)
    for (value, below, above), dot in zip(rows, plot.dots, strict=True):
        assert (dot.x - zero) * value >= -0.1 * abs(value)
        expected = "good" if value - below > 0 else "bad" if value + above < 0 else "unclear"
        assert dot.css == expected


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10), PRINTABLE)
def test_a_reliability_diagram_has_its_points_on_the_scale_of_the_diagonal(
    points: list[Point], title: str
) -> None:
    plot = ReliabilityDiagram(title, points, points[:1], "confidence", "right").plot()
    assert_inside(plot)
    diagonal, before, after = (read_points(path.d) for path in plot.paths)
    (left, bottom), (right, top) = diagonal
    assert len(before) == len(points)
    assert len(after) == 1
    x, y = points[0]
    assert after[0][0] == pytest.approx(left + x * (right - left), abs=0.1)
    assert after[0][1] == pytest.approx(bottom + y * (top - bottom), abs=0.1)
