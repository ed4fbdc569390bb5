"""Find which words of a caption of a scene are false."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from cutline.demo.drawing import COLORS, SHAPES, Scene
from cutline.demo.grammar import NUMBERS, Phrase, is_correct, parse_caption

_VALUES: dict[str, tuple[object, ...]] = {
    "number": tuple(sorted({*NUMBERS.values()})),
    "color": tuple(COLORS),
    "size": ("small", "large"),
    "shape": tuple(SHAPES),
}
"""what a word of a phrase may say; the first of these is changed first"""
_DIRECTIONS = ("above", "below", "left", "right")
_RELATIONS = ("above", "below", "to the left of", "to the right of", "and")
MAX_FALSE_WORDS = 3


@dataclass(frozen=True)
class _Slot:
    """A word that can be false."""

    phrase: int
    """number of its phrase; -1 for the word of the relation"""
    field: str
    position: int
    """number of the word in the caption"""


def find_false_words(
    caption: str, scene: Scene, max_changes: int = MAX_FALSE_WORDS
) -> list[bool] | None:
    """Return which words of a caption are false of a scene.

    They are the fewest words such that the caption is true with others in their place: numbers,
    colors, sizes, shapes, or the direction of a relation, in this order if several choices are as
    small. Articles in a relation are never false.

    Args:
        caption: The caption.
        scene: The scene.
        max_changes: Words that are changed together, at most: each more takes ten times as long. A
            caption that needs more is false in all words that can be.

    Returns:
        Whether each word is false, in the order of `caption.split()`; None for a text outside the
        grammar of captions.
    """
    parsed = parse_caption(caption)
    if parsed is None:
        return None
    phrases, relation = parsed
    slots = _find_slots(caption.lower().rstrip(". ").split(), phrases)
    for count in range(max_changes + 1):
        for changed in combinations(slots, count):
            captions = _iter_captions(phrases, relation, changed)
            if any(is_correct(text, scene) for text in captions):
                return _mark(caption, changed)
    return _mark(caption, slots)


def _mark(caption: str, slots: Sequence[_Slot]) -> list[bool]:
    positions = {slot.position for slot in slots}
    return [position in positions for position in range(len(caption.split()))]


def _find_slots(words: Sequence[str], phrases: Sequence[Phrase]) -> list[_Slot]:
    """Return the words that can be false, in the order in which they are changed."""
    slots, position = [], 0
    for number, phrase in enumerate(phrases):
        fields = ["number", *(name for name in ("size", "color", "shape") if getattr(phrase, name))]
        if number:  # the words of a relation lie before the last phrase
            position = len(words) - len(fields)
        for offset, name in enumerate(fields):
            slots.append(_Slot(number, name, position + offset))
    slots += [_Slot(-1, "relation", i) for i, word in enumerate(words) if word in _DIRECTIONS]
    order = [*_VALUES, "relation"]
    return sorted(slots, key=lambda slot: order.index(slot.field))


def _iter_captions(
    phrases: Sequence[Phrase], relation: str, changed: Sequence[_Slot]
) -> Iterator[str]:
    """Yield the captions with other words in these places."""
    choices = [_RELATIONS if slot.field == "relation" else _VALUES[slot.field] for slot in changed]
    for values in product(*choices):
        new, joint = list(phrases), relation
        for slot, value in zip(changed, values, strict=True):
            if slot.field == "relation":
                joint = str(value)
            else:
                new[slot.phrase] = replace(new[slot.phrase], **{slot.field: value})  # type: ignore[arg-type]
        yield f" {joint} ".join(map(str, new))
