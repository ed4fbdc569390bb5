"""Paragraphs, tables and galleries."""

from pathlib import Path

import pytest
from html_reader import PRINTABLE, RED_IMAGE, HtmlReader, read_images
from hypothesis import given
from PIL import Image

from cutline.errors import ImageError
from cutline.report import THUMBNAIL_SIZE, Card, render_gallery, render_paragraph, render_table


@given(PRINTABLE, PRINTABLE, PRINTABLE)
def test_elements_contain_any_text(text: str, caption: str, cell: str) -> None:
    page = HtmlReader(
        render_paragraph(text)
        + render_gallery([Card("data:image/png;base64,", caption, cell)])
        + render_table([(cell, caption)])
    )
    note = ["span"] if cell else []
    gallery = ["div", "figure", "img", "figcaption", *note]
    table = ["div", "table", "thead", "tr", "tbody", "tr", "td", "td"]
    assert page.tags == ["p", *gallery, *table]
    assert ("alt", caption) in page.attributes


def test_small_images_are_exact_and_large_ones_reduced(tmp_path: Path) -> None:
    small = Image.effect_noise((64, 48), 80).convert("RGB")
    Image.new("RGB", (1200, 600), (10, 120, 200)).save(tmp_path / "large.png")
    cards = [Card(small, ""), Card(str(tmp_path / "large.png"), "")]
    first, second = read_images(render_gallery(cards))
    assert first.convert("RGB").tobytes() == small.tobytes()
    assert (second.format, second.size) == ("JPEG", (THUMBNAIL_SIZE, THUMBNAIL_SIZE // 2))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_any_mode_are_shown(mode: str) -> None:
    assert read_images(render_gallery([Card(Image.new(mode, (8, 8)), "")]))[0].size == (8, 8)


def test_given_image_is_not_modified() -> None:
    large = Image.new("RGB", (900, 900))
    render_gallery([Card(large, "")])
    assert large.size == (900, 900)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "absent.png"):
        with pytest.raises(ImageError, match=name):
            render_gallery([Card(str(tmp_path / name), "")])


def test_marks_differ_in_more_than_color() -> None:
    correct, wrong = Card(RED_IMAGE, "a", correct=True), Card(RED_IMAGE, "b", correct=False)
    page = HtmlReader(render_gallery([correct, wrong, Card(RED_IMAGE, "c")]))
    assert [text for text in page.texts if text in "✓✗"] == ["✓", "✗"]


def test_numbers_are_rounded_and_grouped() -> None:
    rows = [("a", 0.123456), ("b", 1234567), ("c", True), ("d", None)]
    page = HtmlReader(render_table(rows, ("name", "value")))
    cells = ["a", "0.1235", "b", "1,234,567", "c", "True", "d", "None"]
    assert page.texts == ["name", "value", *cells]
