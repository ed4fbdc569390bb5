"""Labels of marked points, moved apart where they would cover each other."""

from collections.abc import Sequence
from dataclasses import replace

from cutline.report.charts.plot import TOP, Dot, Label

CHARACTER, LINE = 10.0, 20.0
"""size of a label's text in pixels, which is larger on phones than elsewhere"""


def separate_labels(labels: Sequence[Label], dots: Sequence[Dot]) -> list[Label]:
    """Return labels that cover no other label and no dot: those that would are moved up, or down.

    Args:
        labels: The labels.
        dots: The points that are marked.
    """
    placed: list[Label] = []
    for label in labels:
        distances = (step * LINE * sign for step in range(2 * len(labels)) for sign in (-1, 1))
        candidates = [replace(label, y=round(label.y + each, 1)) for each in distances]
        free = (
            each
            for each in candidates
            if each.y >= TOP
            and not any(_overlap(each, other) for other in placed)
            and not any(_covers(each, dot) for dot in dots)
        )
        placed.append(next(free, label))
    return placed


def _overlap(a: Label, b: Label) -> bool:
    (a_low, a_high), (b_low, b_high) = _find_extent(a), _find_extent(b)
    return a_low < b_high and b_low < a_high and abs(a.y - b.y) < LINE


def _covers(label: Label, dot: Dot) -> bool:
    low, high = _find_extent(label)
    return low < dot.x < high and label.y - LINE < dot.y < label.y + LINE / 4


def _find_extent(label: Label) -> tuple[float, float]:
    width = CHARACTER * len(label.text)
    start = label.x - width if "end" in label.css else label.x
    return start, start + width
