"""Charts are valid SVG and stay inside their frame."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from html_reader import PRINTABLE
from hypothesis import given
from hypothesis import strategies as st

from cutline.report import render_curve, render_histogram, render_reliability
from cutline.report.charts import MAX_BARS, MAX_POINTS, Point

COORDINATES = st.floats(-1e12, 1e12)
CURVES = st.lists(st.tuples(COORDINATES, COORDINATES), max_size=30)


def parse_svg(chart: str) -> ET.Element:
    return ET.fromstring(chart)[0]


def read_paths(chart: str) -> dict[str, list[Point]]:
    """Points of each path, by its class."""
    paths = {}
    for element in parse_svg(chart).iter("path"):
        pairs = [pair.split() for pair in element.attrib["d"].strip("MZ").split("L")]
        paths[element.attrib["class"]] = [(float(x), float(y)) for x, y in pairs]
    return paths


def read_bar_heights(chart: str) -> list[float]:
    return [float(bar.attrib["height"]) for bar in parse_svg(chart).iter("rect")]


def assert_inside(chart: str) -> None:
    _, _, width, height = map(float, parse_svg(chart).attrib["viewBox"].split())
    for path in read_paths(chart).values():
        for x, y in path:
            assert 0 <= x <= width
            assert 0 <= y <= height


@given(CURVES, PRINTABLE)
def test_curve_is_valid_and_inside_its_frame(points: list[Point], title: str) -> None:
    chart = render_curve(points, title, "step", "loss")
    assert parse_svg(chart).attrib["aria-label"] == title
    assert len(list(parse_svg(chart).iter("path"))) == (3 if points else 0)
    assert_inside(chart)


@given(CURVES.filter(bool))
def test_lines_rise_where_values_rise(points: list[Point]) -> None:
    heights = [-y for _, y in read_paths(render_curve(points, "", "", ""))["faint"]]
    values = [y for _, y in sorted(points)]
    for (h1, v1), (h2, v2) in pairwise(zip(heights, values, strict=True)):
        assert (v1 <= v2 and h1 <= h2) or (v1 >= v2 and h1 >= h2)


def test_curve_shows_round_ticks_and_its_last_mean() -> None:
    points = [(step, 1.0) for step in range(1001)]
    texts: dict[str, list[str | None]] = {}
    for element in parse_svg(render_curve(points, "loss", "step", "nats")).iter("text"):
        texts.setdefault(element.attrib["class"], []).append(element.text)
    assert texts["middle"] == ["0", "500", "1,000"]
    assert texts["last end"] == ["1"]


def test_equal_ratios_are_equally_far_apart_on_a_log_axis() -> None:
    points = [(0.0, 9.0), (-1.0, 9.0), (1e-5, 1.0), (1e-3, 2.0), (1e-1, 1.0)]
    chart = render_curve(points, "", "lr", "loss", log_x=True)
    labels = {
        element.text: float(element.attrib["x"])
        for element in parse_svg(chart).iter("text")
        if element.attrib["class"] == "middle"
    }
    assert list(labels) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    gaps = [b - a for a, b in pairwise(labels.values())]
    assert gaps == pytest.approx([gaps[0]] * 4, abs=0.2)
    xs = [x for x, _ in read_paths(chart)["faint"]]
    assert xs == pytest.approx([labels[name] for name in ("1e-05", "0.001", "0.1")], abs=0.2)
    assert "no data" in render_curve([(0.0, 1.0)], "", "", "", log_x=True)


@given(CURVES.filter(bool))
def test_curve_on_a_log_axis_is_inside_its_frame(points: list[Point]) -> None:
    assert_inside(render_curve([(abs(x), y) for x, y in points], "", "", "", log_x=True))


def test_long_curves_are_thinned_and_keep_their_mean() -> None:
    chart = render_curve([(step, step % 2) for step in range(100_000)], "", "", "")
    faint = read_paths(chart)["faint"]
    assert MAX_POINTS / 2 < len(faint) - 1 < MAX_POINTS
    assert len({y for _, y in faint}) == 1  # means of 0 1 0 1 …


def test_points_that_are_not_finite_are_left_out() -> None:
    finite = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    points = [*finite, (4.0, math.nan), (math.inf, 1.0)]
    assert render_curve(points, "", "", "") == render_curve(finite, "", "", "")


@given(
    st.dictionaries(st.integers(-1000, 1_000_000), st.integers(1, 1_000_000), max_size=30),
    PRINTABLE,
)
def test_histogram_is_valid_and_inside_its_frame(counts: dict[int, int], title: str) -> None:
    chart = parse_svg(render_histogram(counts, title, "words", "captions"))
    _, _, width, height = map(float, chart.attrib["viewBox"].split())
    assert chart.attrib["aria-label"] == title
    bars = [
        {name: float(value) for name, value in bar.attrib.items()} for bar in chart.iter("rect")
    ]
    assert bool(counts) == bool(bars)
    assert len(bars) <= MAX_BARS
    for bar in bars:
        assert 0 <= bar["x"] <= bar["x"] + bar["width"] <= width
        assert 0 <= bar["y"] <= bar["y"] + bar["height"] <= height


@given(st.dictionaries(st.integers(0, MAX_BARS - 1), st.integers(1, 100), min_size=1))
def test_bars_are_as_tall_as_their_counts(counts: dict[int, int]) -> None:
    heights = read_bar_heights(render_histogram(counts, "", "", ""))
    scale = max(heights) / max(counts.values())
    expected = [scale * counts.get(n, 0) for n in range(min(counts), max(counts) + 1)]
    assert heights == pytest.approx(expected, abs=0.11)  # written with one decimal


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10), PRINTABLE)
def test_a_reliability_diagram_has_its_points_on_the_scale_of_the_diagonal(
    points: list[Point], title: str
) -> None:
    chart = render_reliability(points, points[:1], title, "confidence", "right")
    assert_inside(chart)
    root = parse_svg(chart)
    texts = [text.text for text in root.iter("text")]
    assert (title or None) in texts
    diagonal, before, after = root.iter("path")
    assert "stroke-dasharray" in diagonal.attrib
    (left, bottom), (right, top) = (
        map(float, pair.split()) for pair in diagonal.attrib["d"].strip("M").split("L")
    )
    assert before.attrib["d"].count("L") == len(points) - 1
    assert "L" not in after.attrib["d"]
    [circle] = root.iter("circle")
    x, y = points[0]
    assert float(circle.attrib["cx"]) == pytest.approx(left + x * (right - left), abs=0.1)
    assert float(circle.attrib["cy"]) == pytest.approx(bottom + y * (top - bottom), abs=0.1)


def test_neighbors_share_the_bars_of_a_wide_histogram() -> None:
    counts = dict.fromkeys(range(10 * MAX_BARS), 3)
    heights = read_bar_heights(render_histogram(counts, "", "", ""))
    assert len(heights) == MAX_BARS
    assert len(set(heights)) == 1
