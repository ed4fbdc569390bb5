"""Which images a report of captions shows, and what it shows of each."""

from collections.abc import Sequence
from pathlib import Path

from cutline.data import Sample
from cutline.data.coco import UnnamedImage
from cutline.data.sample import is_url
from cutline.report import Card, Line


def make_image_card(
    sample: Sample,
    lines: Sequence[Line],
    numbers: Sequence[float | None],
    tags: Sequence[str],
    note: str = "",
) -> Card:
    """Return a card of an image with its references.

    Args:
        sample: The image.
        lines: Its captions.
        numbers: Its numbers, one for each column of the gallery.
        tags: Its tags.
        note: Further text.
    """
    is_here = _is_here(sample)
    image = sample.image if is_here else None
    return Card(
        image, lines, sample.name, _find_file(sample, is_here), sample.captions, numbers, tags, note
    )


def _is_here(sample: Sample) -> bool:
    """Return whether the image may be read; captions can be measured without it."""
    if isinstance(sample.image, str):
        return bool(sample.local_path) and Path(sample.local_path).exists()
    return not isinstance(sample.image, UnnamedImage)


def _find_file(sample: Sample, is_here: bool) -> str:
    """Return the path or address of the image, or "" if it is not a file of its own."""
    if is_url(sample.name):
        return sample.name
    return sample.local_path if is_here and sample.local_path else sample.url


def select_ranked(values: Sequence[float], number: int) -> list[int]:
    """Return the positions of at most so many values, in the order of the values.

    A quarter of them are those of the lowest values, a quarter those of the highest, and the others
    are spread evenly between these.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    if len(order) <= number:
        return order
    num_extremes = number // 4
    low, high = order[:num_extremes], order[len(order) - num_extremes :]
    middle = order[num_extremes : len(order) - num_extremes]
    count = number - 2 * num_extremes
    return [*low, *(middle[(2 * i + 1) * len(middle) // (2 * count)] for i in range(count)), *high]
