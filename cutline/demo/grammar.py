"""Captions of scenes: write one, and check whether any caption is correct.

The grammar of captions:

    caption  = phrase [relation phrase]
    phrase   = number [size] [color] shape    (a small red circle; two stars; an orange cross)
    relation = "and" | "above" | "below" | ["to the" | "on the"] ("left of" | "right of")

A caption is correct if every word of it is true of the scene. It may leave out a size, a color or
an object; `judge_caption` lists the objects left out. Numbers are exact: "a red circle" is wrong if
there are two. Two phrases never mean the same object: if a red circle is above a blue one, "a
circle above a blue circle" is correct.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

from cutline.demo.drawing import COLORS, SHAPES, Scene, SceneObject

NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
SINGULARS = {plural: shape for shape, plural in PLURALS.items()}


@dataclass(frozen=True)
class Phrase:
    """A description of objects; None for what it does not mention."""

    number: int
    size: str | None
    color: str | None
    shape: str | None

    def matches(self, item: SceneObject) -> bool:
        """Return whether the phrase, apart from its number, is true of an object."""
        words = (self.size, self.color, self.shape)
        facts = (item.size, item.color, item.shape)
        return all(word in (None, fact) for word, fact in zip(words, facts, strict=True))

    def __str__(self) -> str:
        shape = self.shape if self.number == 1 or self.shape is None else PLURALS[self.shape]
        words = " ".join(word for word in (self.size, self.color, shape) if word)
        numerals = (word for word, number in NUMBERS.items() if number == self.number)
        number = next(numerals, str(self.number))
        return f"{'an' if number == 'a' and words[0] in 'aeiou' else number} {words}"


@dataclass(frozen=True)
class ObjectWord:
    """The color or the shape of objects, as a word of a caption."""

    kind: Literal["color", "shape"]
    start: int
    """where the word begins in the caption"""
    end: int
    """where it ends"""
    objects: tuple[SceneObject, ...]
    """the objects that its phrase means"""


def find_object_words(caption: str, scene: Scene) -> list[ObjectWord]:
    """Return the words for colors and shapes in the phrases that are true of objects of a scene.

    A phrase is true of the objects that have its size, color and shape, whatever their number. The
    result is empty for a text outside the grammar, or with other spaces than single ones.
    """
    match, parsed = _CAPTION.fullmatch(caption.lower()), parse_caption(caption)
    if match is None or parsed is None:
        return []
    words = []
    for phrase, first_group in zip(parsed[0], (1, 6), strict=False):
        objects = tuple(filter(phrase.matches, scene.objects))
        kinds: dict[Literal["color", "shape"], int] = {"color": 2, "shape": 3}
        for kind, group in kinds.items():
            start, end = match.span(first_group + group)
            if objects and end > start:
                words.append(ObjectWord(kind, start, end, objects))
    return words


def describe_scene(scene: Scene) -> str:
    """Return the caption of a scene.

    Of two objects, the upper or the left one is first if one is clearly above or to the left of the
    other. Otherwise, the largest group of equal objects is first, and the others follow "and".
    """
    phrases = _describe_groups(scene.objects)
    if len(scene.objects) == 2 == len(phrases):
        for a, b in (scene.objects, scene.objects[::-1]):
            for relation in ("above", "to the left of"):
                if RELATIONS[relation](a, b):
                    return f"{_describe_object(a)} {relation} {_describe_object(b)}"
    return " and ".join(map(str, phrases))


def is_correct(caption: str, scene: Scene) -> bool:
    """Return whether every word of the caption is true of the scene, regardless of its wording."""
    return judge_caption(caption, scene).startswith("correct")


def judge_caption(caption: str, scene: Scene) -> str:
    """Return why a caption is correct or wrong.

    Returns:
        One of "correct", "correct, but omits …", "wrong size: …", "wrong color: …",
        "wrong shape: …", "no such object: …", "wrong count: …", "wrong relation: …", or
        "not understood" for a text outside the grammar.
    """
    parsed = parse_caption(caption)
    if parsed is None:
        return "not understood"
    phrases, relation = parsed
    assignments = list(_assign_objects(phrases, scene))
    for groups in assignments:
        if len(groups) == 1 or all(RELATIONS[relation](a, b) for a, b in product(*groups)):
            mentioned = [item for group in groups for item in group]
            omitted = [item for item in scene.objects if item not in mentioned]
            return f"correct, but omits {_list_objects(omitted)}" if omitted else "correct"
    if assignments:
        return f"wrong relation: not {relation}"
    mismatches = (_explain_mismatch(phrase, scene) for phrase in phrases)
    wrong_count = f"wrong count: the scene has {_list_objects(scene.objects)}"
    return next(filter(None, mismatches), wrong_count)


def _is_above(a: SceneObject, b: SceneObject) -> bool:
    """Return whether `a` is clearly above: no overlap, and less than half as far to the side."""
    down = b.y - a.y
    return down >= a.radius + b.radius and down > 2 * abs(b.x - a.x)


def _is_left_of(a: SceneObject, b: SceneObject) -> bool:
    """Return whether `a` is clearly to the left, in the same sense."""
    across = b.x - a.x
    return across >= a.radius + b.radius and across > 2 * abs(b.y - a.y)


RELATIONS: dict[str, Callable[[SceneObject, SceneObject], bool]] = {
    "and": lambda a, b: True,
    "above": _is_above,
    "below": lambda a, b: _is_above(b, a),
    **{f"{start}left of": _is_left_of for start in ("", "to the ", "on the ")},
    **{f"{start}right of": lambda a, b: _is_left_of(b, a) for start in ("", "to the ", "on the ")},
}


def _match_any(words: Iterable[str]) -> str:
    return f"({'|'.join(words)})"


_NOUN = _match_any([*SINGULARS, *SHAPES])
_PHRASE = rf"{_match_any(NUMBERS)} (?:(small|large) )?(?:{_match_any(COLORS)} )?{_NOUN}"
_CAPTION = re.compile(rf"{_PHRASE}(?: {_match_any(RELATIONS)} {_PHRASE})?\.?")


def parse_caption(caption: str) -> tuple[list[Phrase], str] | None:
    """Return the one or two phrases of a caption and their relation, or None if it has none.

    The relation of a single phrase is "and".
    """
    # Groups: number, size, color and noun of the first phrase; the relation; the second phrase.
    match = _CAPTION.fullmatch(" ".join(caption.lower().split()))
    if match is None:
        return None
    words = match.groups()
    phrases = [_make_phrase(*words[:4])] + ([_make_phrase(*words[5:])] if words[4] else [])
    if None in phrases:
        return None
    return [phrase for phrase in phrases if phrase], words[4] or "and"


def _make_phrase(number: str, size: str | None, color: str | None, noun: str) -> Phrase | None:
    """Return the phrase, or None if number and noun do not agree."""
    count = NUMBERS[number]
    if (count > 1) != (noun in SINGULARS):
        return None
    return Phrase(count, size, color, SINGULARS.get(noun, noun))


def _assign_objects(
    phrases: Sequence[Phrase], scene: Scene
) -> Iterator[tuple[tuple[SceneObject, ...], ...]]:
    """Yield every assignment of objects to phrases, with as many objects as the phrase says.

    No object is assigned to two phrases, and every object that matches a phrase is assigned.
    """
    choices = [
        combinations([item for item in scene.objects if phrase.matches(item)], phrase.number)
        for phrase in phrases
    ]
    for groups in product(*choices):
        assigned = [item for group in groups for item in group]
        others = [item for item in scene.objects if item not in assigned]
        is_complete = not any(phrase.matches(item) for phrase in phrases for item in others)
        if len(set(assigned)) == len(assigned) and is_complete:
            yield groups


def _explain_mismatch(phrase: Phrase, scene: Scene) -> str | None:
    """Return why a phrase matches no object, such as "wrong color: red, not blue".

    A word is wrong if the phrase would match an object without it. None if the phrase matches one.
    """
    if any(map(phrase.matches, scene.objects)):
        return None
    weaker = {
        "color": replace(phrase, color=None),
        "size": replace(phrase, size=None),
        "shape": replace(phrase, shape=None),
    }
    for name, candidate in weaker.items():
        facts = sorted({getattr(item, name) for item in scene.objects if candidate.matches(item)})
        if facts:
            return f"wrong {name}: {' and '.join(facts)}, not {getattr(phrase, name)}"
    return f"no such object: {phrase}"


def _describe_object(item: SceneObject) -> Phrase:
    return Phrase(1, item.size, item.color, item.shape)


def _describe_groups(items: Sequence[SceneObject]) -> list[Phrase]:
    """Return a phrase for each group of equal objects, the largest group first."""
    kinds = Counter((item.size, item.color, item.shape) for item in items)
    ordered = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    return [Phrase(number, *kind) for kind, number in ordered]


def _list_objects(items: Sequence[SceneObject]) -> str:
    return " and ".join(map(str, _describe_groups(items)))
