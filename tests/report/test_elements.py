"""Numbers, tables, galleries and thumbnails."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from html_reader import PRINTABLE, RED_IMAGE, decode_data_uri
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cutline.report import (
    Card,
    Column,
    Gallery,
    Line,
    Problem,
    Problems,
    Table,
    Tone,
    format_interval,
    format_number,
    format_percent,
    format_signed,
)
from cutline.report.thumbnails import (
    MAX_BYTES,
    MAX_SIZE,
    MIN_BYTES,
    TOTAL_BYTES,
    limit_bytes,
    make_data_uri,
)


def test_numbers_are_shown_with_the_digits_that_matter() -> None:
    assert [*map(format_number, (0.12345, 12345.6, 1e-5, -2.5, math.inf, math.nan))] == [
        "0.123",
        "12,345.6",
        "1e-5",
        "−2.5",
        "∞",
        "–",
    ]
    assert [format_signed(x, 2) for x in (0.126, -0.126, 0.0, -0.001)] == [
        "+0.13",
        "−0.13",
        "0.00",
        "0.00",
    ]
    assert format_interval(-0.02, 0.08, 2, signed=True) == "[−0.02, +0.08]"
    assert format_percent(0.895) == "89.5 %"


@given(st.lists(st.floats(-100, 100), min_size=1))
def test_floats_of_a_column_have_the_same_decimals(values: list[float]) -> None:
    cells = Table([[value] for value in values], ["x"]).cells
    assert len({len(cell.text.partition(".")[2]) for [cell] in cells}) == 1
    assert [cell.key for [cell] in cells] == values


def test_a_table_tells_numbers_signs_and_shares_apart() -> None:
    table = Table(
        [["a", 3, 0.25, -0.0123, None], ["b", 1200, 0.5, 0.5, None]],
        ["name", "count", "share", "difference", "nothing"],
        signed=["difference"],
        percent=["share"],
    )
    assert [[cell.text for cell in row] for row in table.cells] == [
        ["a", "3", "25.0 %", "−0.012", ""],
        ["b", "1,200", "50.0 %", "+0.500", ""],
    ]
    assert table.is_number == [False, True, True, True, False]
    assert Table([], ["name"]).cells == []


def test_problems_are_in_the_order_of_their_severity() -> None:
    problems = [Problem(severity, severity, "") for severity in ("note", "error", "warning")]
    assert [each.title for each in Problems(problems).ordered] == ["error", "warning", "note"]
    assert Problem("note", "", "", [("a", "")], num_rows=5).num_omitted == 4


@given(PRINTABLE, st.data())
def test_the_runs_of_a_marked_line_are_its_text(text: str, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    marks = [(start, stop, "wrong") for start, stop in zip(ends[::2], ends[1::2], strict=False)]
    _, runs = Line(text, "name", marks).to_json()  # type: ignore[arg-type]
    assert "".join(run for run, _ in runs) == text
    marked = "".join(run for run, kind in runs if kind)
    assert marked == "".join(text[start:stop] for start, stop, _ in marks)


def test_a_gallery_rejects_cards_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="1 numbers"):
        Gallery([Card(None, [], numbers=[1.0])])
    with pytest.raises(ValueError, match="unknown tags"):
        Gallery([Card(None, [], tags=["right"])])
    gallery = Gallery(
        [Card(None, [], numbers=[math.nan])], [Column("CIDEr")], sort=("CIDEr", "lowest")
    )
    values = gallery.to_json({}, {})
    assert values["sort"] == [0, "lowest"]
    assert values["cards"] == [{"image": -1, "lines": [], "numbers": [None]}]


def make_noise(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def test_a_page_leaves_out_tags_that_no_card_has() -> None:
    cards = [Card(None, [Line("a")], tags=["wrong"]), Card(None, [Line("b")], tags=["new"])]
    tags: dict[str, Tone] = {"right": "good", "wrong": "bad", "new": ""}
    groups = [("right", "wrong")]
    gallery = Gallery(cards, tags=tags, show_tags=["right", "wrong"], tag_groups=groups)
    values = gallery.to_json({}, {})
    assert values["tags"] == [["wrong", "bad"], ["new", ""]]
    assert values["tagGroups"] == [0, 1]
    assert values["showTags"] == [0]
    assert [card["tags"] for card in values["cards"]] == [[0], [1]]


def test_small_images_are_exact_and_large_ones_reduced(tmp_path: Path) -> None:
    small = make_noise(64, 48)
    Image.new("RGB", (1200, 600), (10, 120, 200)).save(tmp_path / "large.png")
    exact = decode_data_uri(make_data_uri(small))
    assert exact.convert("RGB").tobytes() == small.tobytes()
    reduced = decode_data_uri(make_data_uri(str(tmp_path / "large.png")))
    assert reduced.size == (MAX_SIZE, MAX_SIZE // 2)
    red, green, blue = reduced.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    assert abs(red - 10) + abs(green - 120) + abs(blue - 200) < 12


@pytest.mark.parametrize("max_bytes", [MIN_BYTES, 3145, MAX_BYTES])
def test_thumbnails_stay_within_their_size(max_bytes: int) -> None:
    """Noise is harder to compress than any photograph."""
    image = make_noise(640, 480).resize((1280, 960))
    uri = make_data_uri(image, max_bytes)
    assert len(uri) <= 4 * max_bytes / 3 + 40
    assert decode_data_uri(uri).width >= 40


def test_the_images_of_a_page_share_its_size() -> None:
    for count in (1, 10, 100, 1000, 2500):
        assert limit_bytes(count) * count <= TOTAL_BYTES
    assert limit_bytes(10_000) == MIN_BYTES
    assert limit_bytes(0) == MAX_BYTES


def test_images_of_any_kind_become_thumbnails_or_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    RED_IMAGE.save(file, "PNG")
    (tmp_path / "broken.png").write_bytes(file.getvalue()[:60])
    sources = [RED_IMAGE, file.getvalue(), np.asarray(RED_IMAGE)]
    assert len({make_data_uri(source) for source in sources}) == 1
    assert make_data_uri(str(tmp_path / "broken.png")) == ""
    assert make_data_uri(str(tmp_path / "gone.png")) == ""
