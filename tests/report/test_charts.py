"""The sheets: every text escaped, nothing loaded from elsewhere, charts that are valid SVG inside their frame."""

import base64
import io
import math
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cutline.errors import ImageError
from cutline.report import (
    MAX_BARS,
    MAX_POINTS,
    THUMBNAIL_SIZE,
    Card,
    render_curve,
    render_gallery,
    render_histogram,
    render_key_figures,
    render_paragraph,
    render_table,
    write_report,
)

HOSTILE = '<script src="http://x/y.js">&amp;"\'</script><img src=//x onerror=alert(1)>{title}%s'
PICTURE = Image.new("RGB", (64, 64), (200, 30, 40))
printable = st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn")))
points = st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12)), max_size=30)


class Reader(HTMLParser):
    """Tags, attributes and texts of a page; complains about tags that are not closed in order."""

    void = frozenset({"meta", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def svg(chart: str) -> ET.Element:
    return ET.fromstring(chart)[0]


def pictures(page: str) -> list[Image.Image]:
    sources = [value or "" for name, value in Reader(page).attributes if name == "src"]
    return [
        Image.open(io.BytesIO(base64.b64decode(source.partition(";base64,")[2])))
        for source in sources
    ]


def write_hostile(path: Path) -> None:
    chart = render_curve([(1, 2.0), (2, 1.0)], HOSTILE, HOSTILE, HOSTILE)
    cards = render_gallery(
        [Card(PICTURE, HOSTILE, HOSTILE, True), Card(PICTURE, HOSTILE, good=False)]
    )
    parts = [
        chart,
        cards,
        render_table([(HOSTILE, 1)], (HOSTILE, HOSTILE)),
        render_key_figures([(HOSTILE, HOSTILE)]),
        render_paragraph(HOSTILE),
    ]
    write_report(path, HOSTILE, HOSTILE, [(HOSTILE, part) for part in parts])


def test_every_text_is_escaped_and_shown(tmp_path: Path) -> None:
    write_hostile(tmp_path / "report.html")
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    assert (
        page.texts.count(HOSTILE) == 3 + 5 + 3 + 3 + 3 + 2 + 1
    )  # page, headings, chart, cards, table, figures, paragraph
    assert [value for name, value in page.attributes if name == "alt"] == [HOSTILE] * 2


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    write_hostile(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Reader(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [
        name
        for name, _ in page.attributes
        if name.startswith("on") or name in ("href", "srcset", "style")
    ]
    assert all(
        value and value.startswith("data:image/")
        for name, value in page.attributes
        if name == "src"
    )
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = [value for name, value in page.attributes if value and "default-src" in value]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


@given(printable, printable, printable)
def test_sections_hold_any_text(text: str, caption: str, cell: str) -> None:
    page = Reader(
        render_paragraph(text)
        + render_gallery([Card("data:image/png;base64,", caption, cell)])
        + render_table([(cell, caption)])
    )
    note = ["span"] if cell else []
    assert page.tags == [
        "p",
        "div",
        "figure",
        "img",
        "figcaption",
        *note,
        "div",
        "table",
        "thead",
        "tr",
        "tbody",
        "tr",
        "td",
        "td",
    ]
    assert ("alt", caption) in page.attributes


def test_a_report_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "report.html"
    write_report(path, "one", "", [])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", None)
        with pytest.raises(TypeError):
            write_report(path, "two", "", [])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    write_report(path, "caf\udce9.png", "", [])  # a file name that is not UTF-8
    assert "caf\\udce9.png" in path.read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------------- curves


@given(points, printable)
def test_a_curve_is_valid_and_inside_its_frame(
    drawn: list[tuple[float, float]], title: str
) -> None:
    chart = svg(render_curve(drawn, title, "step", "loss"))
    _, _, width, height = map(float, chart.attrib["viewBox"].split())
    assert chart.attrib["aria-label"] == title
    paths = [element.attrib["d"] for element in chart.iter("path")]
    assert len(paths) == (3 if drawn else 0)
    for path in paths:
        for x, y in (map(float, pair.split()) for pair in path.strip("MZ").split("L")):
            assert 0 <= x <= width
            assert 0 <= y <= height


@given(points.filter(bool))
def test_lines_rise_where_values_rise(drawn: list[tuple[float, float]]) -> None:
    path = next(
        element
        for element in svg(render_curve(drawn, "", "", "")).iter("path")
        if element.attrib["class"] == "faint"
    ).attrib["d"]
    heights = [-float(pair.split()[1]) for pair in path.strip("M").split("L")]
    values = [y for _, y in sorted(drawn)]
    for (h1, v1), (h2, v2) in zip(
        zip(heights, values, strict=True), zip(heights[1:], values[1:], strict=False), strict=False
    ):
        assert (v1 <= v2 and h1 <= h2) or (v1 >= v2 and h1 >= h2)


def test_a_curve_shows_round_ticks_and_its_last_mean() -> None:
    chart = svg(render_curve([(step, 1.0) for step in range(0, 1001)], "loss", "step", "nats"))
    texts = {
        kind: [element.text for element in chart.iter("text") if element.attrib["class"] == kind]
        for kind in ("middle", "last end")
    }
    assert texts["middle"] == ["0", "500", "1,000"]
    assert texts["last end"] == ["1"]


def test_on_a_logarithmic_axis_equal_ratios_are_equally_far_apart() -> None:
    drawn = svg(
        render_curve(
            [(0.0, 9.0), (-1.0, 9.0), (1e-5, 1.0), (1e-3, 2.0), (1e-1, 1.0)],
            "",
            "lr",
            "loss",
            log_x=True,
        )
    )
    labels = {
        e.text: float(e.attrib["x"]) for e in drawn.iter("text") if e.attrib["class"] == "middle"
    }
    assert list(labels) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    gaps = [b - a for a, b in zip(list(labels.values()), list(labels.values())[1:], strict=False)]
    assert gaps == pytest.approx([gaps[0]] * 4, abs=0.2)
    path = next(e for e in drawn.iter("path") if e.attrib["class"] == "faint").attrib["d"]
    xs = [float(pair.split()[0]) for pair in path.strip("M").split("L")]
    assert xs == pytest.approx([labels[name] for name in ("1e-05", "0.001", "0.1")], abs=0.2)
    assert "nothing to draw" in render_curve([(0.0, 1.0)], "", "", "", log_x=True)


@given(points.filter(bool))
def test_any_curve_on_a_logarithmic_axis_is_inside_its_frame(
    drawn: list[tuple[float, float]],
) -> None:
    for element in svg(render_curve([(abs(x), y) for x, y in drawn], "", "", "", log_x=True)).iter(
        "path"
    ):
        for x, y in (
            map(float, pair.split()) for pair in element.attrib["d"].strip("MZ").split("L")
        ):
            assert 0 <= x <= 720
            assert 0 <= y <= 384


def test_long_curves_are_thinned_without_losing_their_mean() -> None:
    chart = svg(render_curve([(step, step % 2) for step in range(100_000)], "", "", ""))
    paths = {element.attrib["class"]: element.attrib["d"] for element in chart.iter("path")}
    assert MAX_POINTS / 2 < paths["faint"].count("L") < MAX_POINTS
    assert (
        len({pair.split()[1] for pair in paths["faint"].strip("M").split("L")}) == 1
    )  # means of 0 1 0 1 …


def test_points_that_are_not_finite_are_left_out() -> None:
    good = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    assert render_curve([*good, (4.0, math.nan), (math.inf, 1.0)], "", "", "") == render_curve(
        good, "", "", ""
    )


# ----------------------------------------------------------------------------------------------------- histograms


@given(
    st.dictionaries(st.integers(-1000, 1_000_000), st.integers(1, 1_000_000), max_size=30),
    printable,
)
def test_a_histogram_is_valid_and_inside_its_frame(counts: dict[int, int], title: str) -> None:
    chart = svg(render_histogram(counts, title, "words", "captions"))
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
def test_bars_are_as_tall_as_their_numbers(counts: dict[int, int]) -> None:
    heights = [
        float(bar.attrib["height"])
        for bar in svg(render_histogram(counts, "", "", "")).iter("rect")
    ]
    low, high = min(counts), max(counts)
    assert len(heights) == high - low + 1
    expected = [
        max(heights) * counts.get(number, 0) / max(counts.values())
        for number in range(low, high + 1)
    ]
    assert heights == pytest.approx(expected, abs=0.11)  # written with one digit


def test_neighbours_share_the_bars_of_a_wide_histogram() -> None:
    heights = [
        float(bar.attrib["height"])
        for bar in svg(render_histogram(dict.fromkeys(range(10 * MAX_BARS), 3), "", "", "")).iter(
            "rect"
        )
    ]
    assert len(heights) == MAX_BARS
    assert len(set(heights)) == 1


# ------------------------------------------------------------------------------------------------------- images


def test_small_pictures_are_exact_and_large_ones_reduced(tmp_path: Path) -> None:
    small = Image.effect_noise((64, 48), 80).convert("RGB")
    Image.new("RGB", (1200, 600), (10, 120, 200)).save(tmp_path / "large.png")
    first, second = pictures(
        render_gallery([Card(small, ""), Card(str(tmp_path / "large.png"), "")])
    )
    assert first.convert("RGB").tobytes() == small.tobytes()
    assert (second.format, second.size) == ("JPEG", (THUMBNAIL_SIZE, THUMBNAIL_SIZE // 2))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_any_mode_are_shown(mode: str) -> None:
    assert pictures(render_gallery([Card(Image.new(mode, (8, 8)), "")]))[0].size == (8, 8)


def test_the_picture_given_is_left_as_it_is() -> None:
    large = Image.new("RGB", (900, 900))
    render_gallery([Card(large, "")])
    assert large.size == (900, 900)


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "absent.png"):
        with pytest.raises(ImageError, match=name):
            render_gallery([Card(str(tmp_path / name), "")])


def test_verdicts_are_marked_in_more_than_colour() -> None:
    page = Reader(
        render_gallery(
            [Card(PICTURE, "a", good=True), Card(PICTURE, "b", good=False), Card(PICTURE, "c")]
        )
    )
    assert [text for text in page.texts if text in "✓✗"] == ["✓", "✗"]


# --------------------------------------------------------------------------------------------------------- tables


def test_numbers_are_rounded_and_grouped() -> None:
    page = Reader(
        render_table([("a", 0.123456), ("b", 1234567), ("c", True), ("d", None)], ("name", "value"))
    )
    assert page.texts == [
        "name",
        "value",
        "a",
        "0.1235",
        "b",
        "1,234,567",
        "c",
        "True",
        "d",
        "None",
    ]
