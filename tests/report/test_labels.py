"""Labels of marked points do not cover each other."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cutline.report.charts.labels import CHARACTER, LINE, separate_labels
from cutline.report.charts.plot import TOP, Dot, Label
from cutline.report.numbers import format_scientific

POINTS = st.lists(st.tuples(st.integers(60, 600), st.integers(20, 240)), max_size=5)


@given(POINTS)
def test_labels_cover_no_label_and_no_dot(points: list[tuple[int, int]]) -> None:
    dots = [Dot(x, y) for x, y in points]
    labels = [Label(x + 8, y - 9, "steepest fall") for x, y in points]
    separate = separate_labels(labels, dots)
    width = CHARACTER * len("steepest fall")
    for before, after in zip(labels, separate, strict=True):
        assert (after.x, after.text, after.css) == (before.x, before.text, before.css)
        assert after.y >= min(TOP, before.y)
    for a, b in combinations(separate, 2):
        assert abs(a.x - b.x) >= width or abs(a.y - b.y) >= LINE
    for label in separate:
        for dot in dots:
            assert not (label.x < dot.x < label.x + width and label.y - LINE < dot.y < label.y)


def test_labels_that_are_apart_stay_where_they_are() -> None:
    labels = [Label(100, 100, "best"), Label(100, 130, "last"), Label(300, 100, "first", "end")]
    assert separate_labels(labels, [Dot(92, 109), Dot(92, 139), Dot(308, 109)]) == labels


@given(st.floats(1e-12, 1e12))
def test_scientific_numbers_have_three_digits(value: float) -> None:
    assert abs(float(format_scientific(value)) - value) <= 0.0051 * value
    assert format_scientific(-value) == f"−{format_scientific(value)}"
