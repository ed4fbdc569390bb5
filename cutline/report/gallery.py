"""Galleries: images with captions that readers search, filter, sort and enlarge."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cutline.image import ImageSource
from cutline.web import hide_credentials

Tone = Literal["", "good", "bad"]
Mark = tuple[int, int, Literal["added", "removed", "unsure", "wrong"]]
"""a part of a line, from one position to another, and what it is"""


@dataclass(frozen=True)
class Line:
    """A text below an image, such as its caption."""

    text: str
    label: str = ""
    """whose text it is, such as the name of a captioner"""
    marks: Sequence[Mark] = ()
    """parts of the text that are marked, in order, without overlaps"""

    def to_json(self) -> list[Any]:
        """Return the label, and the runs of the text, each with its mark."""
        runs, end = [], 0
        for start, stop, kind in self.marks:
            runs += [[self.text[end:start], ""], [self.text[start:stop], kind]]
            end = stop
        runs.append([self.text[end:], ""])
        return [self.label, [run for run in runs if run[0]]]


@dataclass(frozen=True)
class Card:
    """An image of a gallery with its texts and numbers."""

    image: ImageSource | None
    """None if it is not available; one that cannot be read is shown as such"""
    lines: Sequence[Line]
    """shown below the image"""
    name: str = ""
    """display name of the image, such as its path"""
    file: str = ""
    """path or address that the enlarged image links to"""
    references: Sequence[str] = ()
    """shown with the enlarged image, and searched"""
    numbers: Sequence[float | None] = ()
    """one for each column of the gallery; None if the image has no such number"""
    tags: Sequence[str] = ()
    """among the tags of the gallery"""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A number of each card, by which a gallery is filtered and sorted."""

    name: str
    decimals: int = 2
    signed: bool = False
    """whether it is a difference, which gets a sign"""


@dataclass(frozen=True)
class Gallery:
    """Images with captions that readers search, filter, sort and enlarge.

    Raises:
        ValueError: A card has another number of columns, or a tag that the gallery does not list.
    """

    cards: Sequence[Card]
    columns: Sequence[Column] = ()
    tags: Mapping[str, Tone] = field(default_factory=dict)
    """tags in the order of the filter, each with what it means for the caption; the page leaves out
    those that no card has"""
    sort: tuple[str, Literal["highest", "lowest", "typical"]] | None = None
    """column, and what comes first; typical is closest to the median (default: as given)"""
    show_tags: Sequence[str] = ()
    """tags that the page filters by when it opens (default, or if no card has them: all images)"""
    noun: str = "images"
    """what the cards are, for the line that counts them"""
    given_order: str = "as given"
    """what the order of `cards` is called"""
    num_references: int = 0
    """references that each card shows; an enlarged image has all"""
    reference_heading: str = "References"
    """what the references are called"""
    tag_groups: Sequence[Collection[str]] = ()
    """tags that exclude each other, such as right and wrong: of each group, a card must have a
    chosen tag (default: all tags are one group)"""

    def __post_init__(self) -> None:
        for card in self.cards:
            if len(card.numbers) != len(self.columns):
                raise ValueError(f"{card.name}: {len(card.numbers)} numbers for the columns")
            if unknown := set(card.tags) - set(self.tags):
                raise ValueError(f"{card.name}: unknown tags {unknown}")

    def to_json(self, thumbnails: Mapping[int, int], links: Mapping[str, str]) -> dict[str, Any]:
        """Return the gallery as the script of the page reads it.

        Args:
            thumbnails: Index of the thumbnail of each card, by the card's position.
            links: Links of files, by path or address.
        """
        used = {tag for card in self.cards for tag in card.tags}
        tags = {tag: tone for tag, tone in self.tags.items() if tag in used}
        indices = {tag: index for index, tag in enumerate(tags)}
        return {
            "noun": self.noun,
            "givenOrder": self.given_order,
            "numReferences": self.num_references,
            "referenceHeading": self.reference_heading,
            "columns": [
                {"name": each.name, "decimals": each.decimals, "signed": each.signed}
                for each in self.columns
            ],
            "tags": [[name, tone] for name, tone in tags.items()],
            "tagGroups": [self._find_group(name) for name in tags],
            "sort": [[c.name for c in self.columns].index(self.sort[0]), self.sort[1]]
            if self.sort
            else None,
            "showTags": [indices[tag] for tag in self.show_tags if tag in indices],
            "cards": [
                _describe_card(card, thumbnails.get(index, -1), links.get(card.file, ""), indices)
                for index, card in enumerate(self.cards)
            ],
        }

    def _find_group(self, tag: str) -> int:
        numbers = (number for number, group in enumerate(self.tag_groups) if tag in group)
        return next(numbers, len(self.tag_groups))


def _describe_card(
    card: Card, thumbnail: int, link: str, tags: Mapping[str, int]
) -> dict[str, Any]:
    values = {
        "name": hide_credentials(card.name),
        "link": link,
        "references": list(card.references),
        "numbers": [_round(number) for number in card.numbers],
        "tags": [tags[tag] for tag in card.tags],
        "note": hide_credentials(card.note),
    }
    given = {name: value for name, value in values.items() if value not in ("", [])}
    return {"image": thumbnail, "lines": [line.to_json() for line in card.lines], **given}


def _round(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(number, 6)
