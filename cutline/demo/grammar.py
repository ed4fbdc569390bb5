"""One caption for a drawn scene, and the check whether any caption is true of it.

The language is small:

    caption = phrase [link phrase]
    phrase  = number [size] [colour] shape        a small red circle; two stars; an orange cross
    link    = "and" | "above" | "below" | ["to the" | "on the"] ("left of" | "right of")

A caption is true when every word of it is. Leaving out a size, a colour or a whole object is no untruth; `verdict`
says which objects were left out. Numbers are exact: "a red circle" is false where there are two. Two phrases share the
objects out between them: of a red circle above a blue one, "a circle above a blue circle" is true.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from cutline.demo.drawing import COLORS, SHAPES, Scene, SceneObject

NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
_SINGULARS = {plural: shape for shape, plural in _PLURALS.items()}


@dataclass(frozen=True)
class _Phrase:
    """What is said of some objects; None where nothing is said."""

    number: int
    size: str | None
    color: str | None
    shape: str | None

    def fits(self, item: SceneObject) -> bool:
        said = (self.size, self.color, self.shape)
        return all(
            word in (None, fact)
            for word, fact in zip(said, (item.size, item.color, item.shape), strict=True)
        )

    def __str__(self) -> str:
        shape = self.shape if self.number == 1 or self.shape is None else _PLURALS[self.shape]
        words = " ".join(word for word in (self.size, self.color, shape) if word)
        number = next(
            (word for word, number in NUMBERS.items() if number == self.number), str(self.number)
        )
        return f"{'an' if number == 'a' and words[0] in 'aeiou' else number} {words}"


def describe_scene(scene: Scene) -> str:
    """The one caption of a scene, always true of it.

    Two objects: the upper or the left one is named first, "above" or "to the left of" the other where that is clear.
    Several of a kind come first, with their number, and the rest after "and".
    """
    groups = _groups(scene.objects)
    if len(scene.objects) == 2 == len(groups):
        for a, b in (scene.objects, scene.objects[::-1]):
            for link in ("above", "to the left of"):
                if _LINKS[link](a, b):
                    return f"{_group((a,))} {link} {_group((b,))}"
    return " and ".join(map(str, groups))


def is_true_of(caption: str, scene: Scene) -> bool:
    """Whether every word of the caption is true of the scene's own objects, whatever the wording."""
    return verdict(caption, scene).startswith("true")


def verdict(caption: str, scene: Scene) -> str:
    """Why a caption is true or false of the scene: one of

    "true", "true, but leaves out …", "wrong size: …", "wrong colour: …", "wrong shape: …", "no such object: …",
    "wrong count: …", "no such relation: …", "not understood".
    """
    parsed = _parse(caption)
    if parsed is None:
        return "not understood"
    phrases, link = parsed
    readings = list(_readings(phrases, scene))
    for groups in readings:
        if len(groups) == 1 or all(_LINKS[link](a, b) for a, b in product(*groups)):
            left_out = [
                item for item in scene.objects if not any(item in group for group in groups)
            ]
            return f"true, but leaves out {_list(left_out)}" if left_out else "true"
    if readings:
        return f"no such relation: not {link}"
    complaints = [_complaint(phrase, scene) for phrase in phrases]
    return next(filter(None, complaints), f"wrong count: the scene has {_list(scene.objects)}")


# ------------------------------------------------------------------------------------------------------ relations


def _above(a: SceneObject, b: SceneObject) -> bool:
    """Clearly so: no overlap in height, and less than half as far aside as down."""
    down = b.y - a.y
    return down >= a.radius + b.radius and down > 2 * abs(b.x - a.x)


def _left_of(a: SceneObject, b: SceneObject) -> bool:
    across = b.x - a.x
    return across >= a.radius + b.radius and across > 2 * abs(b.y - a.y)


_LINKS: dict[str, Callable[[SceneObject, SceneObject], bool]] = {
    "and": lambda a, b: True,
    "above": _above,
    "below": lambda a, b: _above(b, a),
    **{f"{lead}left of": _left_of for lead in ("", "to the ", "on the ")},
    **{f"{lead}right of": lambda a, b: _left_of(b, a) for lead in ("", "to the ", "on the ")},
}

# -------------------------------------------------------------------------------------------------------- parsing


def _one_of(words: Iterable[str]) -> str:
    return f"({'|'.join(words)})"


_PHRASE = rf"{_one_of(NUMBERS)} (?:(small|large) )?(?:{_one_of(COLORS)} )?{_one_of([*_SINGULARS, *SHAPES])}"
_CAPTION = re.compile(rf"{_PHRASE}(?: {_one_of(_LINKS)} {_PHRASE})?\.?")


def _parse(caption: str) -> tuple[list[_Phrase], str] | None:
    """The phrases of a caption and the link between them ("and" if there is one phrase); None if it is another language."""
    found = _CAPTION.fullmatch(" ".join(caption.lower().split()))
    if found is None:
        return None
    words = found.groups()
    phrases = [_phrase(*words[:4])] + ([_phrase(*words[5:])] if words[4] else [])
    if None in phrases:
        return None
    return [phrase for phrase in phrases if phrase], words[4] or "and"


def _phrase(number: str, size: str | None, color: str | None, noun: str) -> _Phrase | None:
    """None if number and noun do not agree."""
    count = NUMBERS[number]
    if (count > 1) != (noun in _SINGULARS):
        return None
    return _Phrase(count, size, color, _SINGULARS.get(noun, noun))


# ------------------------------------------------------------------------------------------------------- checking


def _readings(
    phrases: Sequence[_Phrase], scene: Scene
) -> Iterator[tuple[tuple[SceneObject, ...], ...]]:
    """Every way to give each phrase its number of objects so that none is named twice and no object left over fits a phrase."""
    choices = [
        combinations([item for item in scene.objects if phrase.fits(item)], phrase.number)
        for phrase in phrases
    ]
    for groups in product(*choices):
        named = [item for group in groups for item in group]
        over = [item for item in scene.objects if item not in named]
        if len(set(named)) == len(named) and not any(
            phrase.fits(item) for phrase in phrases for item in over
        ):
            yield groups


def _complaint(phrase: _Phrase, scene: Scene) -> str | None:
    """What is wrong with a phrase that fits no object at all: the one word whose absence would make it fit."""
    if any(map(phrase.fits, scene.objects)):
        return None
    looser = {
        "color": replace(phrase, color=None),
        "size": replace(phrase, size=None),
        "shape": replace(phrase, shape=None),
    }
    for name, loose in looser.items():
        facts = sorted({getattr(item, name) for item in scene.objects if loose.fits(item)})
        if facts:
            return f"wrong {name.replace('color', 'colour')}: {' and '.join(facts)}, not {getattr(phrase, name)}"
    return f"no such object: {phrase}"


def _group(items: Sequence[SceneObject]) -> _Phrase:
    return _Phrase(len(items), items[0].size, items[0].color, items[0].shape)


def _groups(items: Sequence[SceneObject]) -> list[_Phrase]:
    """Objects that look alike together, the most numerous first."""
    kinds = Counter((item.size, item.color, item.shape) for item in items)
    return [
        _Phrase(number, *kind)
        for kind, number in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def _list(items: Sequence[SceneObject]) -> str:
    return " and ".join(map(str, _groups(items)))
