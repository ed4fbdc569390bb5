"""Find the rows that a journal knows in a captions file that somebody has changed since."""

import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cutline.serving.review.formats import FileRow
from cutline.serving.review.replay import KnownRow
from cutline.serving.review.row import RowId


@dataclass(frozen=True)
class Matches:
    """Which entries are which rows."""

    positions: dict[int, int]
    """where each entry of `order` is in the file; rejected rows may be missing"""
    order: list[int]
    """numbers of all entries"""


def match_rows(
    entries: Sequence[FileRow | None], known: Mapping[RowId, KnownRow], order: Sequence[int]
) -> Matches:
    """Return which entries of a file are rows that a journal knows; all others are new.

    Rows are the same if they have the same image, and a text that the journal has recorded; those
    that are left of an image are the same in their order.

    Args:
        entries: What is in the file.
        known: What the journal knows of rows.
        order: Numbers of all entries before.
    """
    free = _Positions(entries)
    found: dict[int, int] = {}
    rows = [(id, row) for id, row in known.items() if isinstance(id, int)]
    rows.sort()
    present = [(id, row) for id, row in rows if row.state != "rejected"]
    for id, row in present:
        _assign(found, id, free.take(row.image, [row.text]))
    for id, row in rows:
        if id not in found:
            _assign(found, id, free.take(row.image, sorted(row.texts)))
    for id, row in present:
        if id not in found:
            _assign(found, id, free.take(row.image, None))
    return _number(found, len(entries), known, order)


def _assign(found: dict[int, int], id: int, position: int | None) -> None:
    if position is not None:
        found[id] = position


class _Positions:
    """Positions of rows in a file that have not been taken yet, by image and text."""

    def __init__(self, entries: Sequence[FileRow | None]) -> None:
        self._by_text: defaultdict[tuple[str, str], deque[int]] = defaultdict(deque)
        self._by_image: defaultdict[str, deque[int]] = defaultdict(deque)
        self._taken: set[int] = set()
        for position, row in enumerate(entries):
            if row is not None:
                self._by_text[row.name, row.text].append(position)
                self._by_image[row.name].append(position)

    def take(self, image: str, texts: Iterable[str] | None) -> int | None:
        """Return the first position with an image and one of several texts, or any text."""
        queues = [self._by_image[image]] if texts is None else []
        queues += [self._by_text[image, text] for text in texts or ()]
        for queue in queues:
            while queue:
                position = queue.popleft()
                if position not in self._taken:
                    self._taken.add(position)
                    return position
        return None


def _number(
    found: dict[int, int], count: int, known: Mapping[RowId, KnownRow], order: Sequence[int]
) -> Matches:
    """Give numbers to entries that are new, and places to rejected rows, which are in no file."""
    ids = {position: id for id, position in found.items()}
    new = itertools.count(max(order, default=-1) + 1)
    positions = {ids[place] if place in ids else next(new): place for place in range(count)}
    places: dict[int, float] = {id: float(place) for id, place in positions.items()}
    place = 0.0  # of the entry that comes next, as far as the old order tells
    for id in order:
        if id in found:
            place = found[id] + 1.0
        elif id in known and known[id].state == "rejected":
            places[id] = place - 0.5
        else:
            place += 1
    return Matches(positions, sorted(places, key=places.__getitem__))
