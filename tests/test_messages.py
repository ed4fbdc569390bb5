"""Values, names and errors as messages show them."""

import pytest

from cutline.messages import (
    count_noun,
    first_line,
    format_name,
    format_text,
    format_value,
    one_line,
)


def test_values_are_short_and_on_one_line() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * 10**6, ["y" * 1000] * 1000, nested, {"a\nb": "\n"}, 10**5000):
        assert len(format_value(value)) <= 61
        assert "\n" not in format_value(value)
    assert format_value("x" * 100) == "'" + "x" * 59 + "…"
    assert format_value(nested) == "a deeply nested value"


def test_names_are_short_and_on_one_line() -> None:
    assert format_name("ảnh\n\ud800\\" + "x" * 1000) == "ảnh\\n\\ud800\\" + "x" * 48 + "…"
    assert format_text("ảnh\n" + "x" * 1000) == "ảnh\\n" + "x" * 195 + "…"
    assert format_text("\ud800" * 200) == ("\\ud800" * 34)[:200] + "…"
    assert one_line("\r\n" + "x" * 1000) == "\\r\\n" + "x" * 1000


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", "ValueError"),
        ("\n too deep \n at line 3", "too deep"),
        ("x" * 1000, "x" * 200 + "…"),
        ("a\x1b", "a\\x1b"),
    ],
)
def test_errors_are_their_first_line(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line


def test_a_noun_has_the_form_of_its_number() -> None:
    assert [count_noun(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert count_noun(1, "image is", "images are") == "1 image is"
    assert count_noun(2, "image is", "images are") == "2 images are"
