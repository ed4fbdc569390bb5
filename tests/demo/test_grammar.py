"""Captions of scenes are correct, and captions with a changed word are wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scenes import any_scene, get_kinds

from cutline.demo.drawing import COLORS, SHAPES, Background, Scene, SceneObject
from cutline.demo.grammar import describe_scene, is_correct, judge_caption

RELATIONS = {
    "above": "below",
    "below": "above",
    "to the left of": "to the right of",
    "to the right of": "to the left of",
}
PLAIN = Background("plain", ((200, 205, 210), (200, 205, 210)))
SMALL, LARGE = 0.1, 0.18


def make_scene(*objects: tuple[str, str, float, float, float]) -> Scene:
    """Return a scene of objects (color, shape, x, y, radius)."""
    return Scene(
        tuple(SceneObject(shape, color, x, y, radius) for color, shape, x, y, radius in objects),
        PLAIN,
    )


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


@given(any_scene)
def test_descriptions_are_correct_and_complete(scene: Scene) -> None:
    assert judge_caption(describe_scene(scene), scene) == "correct"
    assert is_correct(describe_scene(scene), scene)


@given(any_scene, st.data())
def test_changing_any_word_makes_a_caption_wrong(scene: Scene, data: st.DataObject) -> None:
    words = describe_scene(scene).split()
    families = [
        ("small", "large"),
        tuple(COLORS),
        SHAPES,
        tuple(map(plural, SHAPES)),
        ("two", "three", "four"),
    ]
    candidates = [
        (i, family) for i, word in enumerate(words) for family in families if word in family
    ]
    i, family = data.draw(st.sampled_from(candidates))
    words[i] = data.draw(st.sampled_from([word for word in family if word != words[i]]))
    assert not is_correct(" ".join(words), scene)


@given(any_scene)
def test_one_more_of_anything_is_wrong(scene: Scene) -> None:
    caption = describe_scene(scene)
    more = re.sub(
        r"\ba (\w+ \w+) (\w+)", lambda match: f"two {match[1]} {plural(match[2])}", caption, count=1
    )
    assert more == caption or not is_correct(more, scene)


@given(any_scene)
def test_if_a_relation_is_described_no_other_holds(scene: Scene) -> None:
    match = re.fullmatch(r"(.*) (above|to the left of) (.*)", describe_scene(scene))
    assert (match is None) == (len(scene.objects) == 3 or len(get_kinds(scene)) == 1)
    if match:
        first, relation, second = match.groups()
        holds = {
            (a, r, b): is_correct(f"{a} {r} {b}", scene)
            for r in RELATIONS
            for a, b in ((first, second), (second, first))
        }
        assert {key for key, value in holds.items() if value} == {
            (first, relation, second),
            (second, RELATIONS[relation], first),
        }


@given(any_scene, st.sets(st.sampled_from(["size", "color", "order", "and", "case"])))
def test_other_wordings_are_correct(scene: Scene, changes: set[str]) -> None:
    caption = describe_scene(scene)
    if "size" in changes:
        caption = re.sub(r"\b(small|large) ", "", caption)
    if "color" in changes:
        caption = re.sub(rf"\b({'|'.join(COLORS)}) ", "", caption)
    relations = rf"(.*) ({'|'.join(RELATIONS)}|and) (.*)"
    if "order" in changes and (match := re.fullmatch(relations, caption)):
        caption = f"{match[3]} {RELATIONS.get(match[2], 'and')} {match[1]}"
    if "and" in changes:
        caption = re.sub("|".join(RELATIONS), "and", caption)
    if "case" in changes:
        caption = caption.capitalize().replace("to the ", "on the ") + "."
    assert is_correct(caption, scene), judge_caption(caption, scene)


@given(any_scene)
def test_half_a_caption_is_correct_and_the_judgment_lists_what_it_omits(scene: Scene) -> None:
    halves = re.split(r" (?:above|to the left of|and) ", describe_scene(scene))
    for half, other in zip(halves, reversed(halves), strict=True):
        judgment = "correct" if len(halves) == 1 else f"correct, but omits {other}"
        assert judge_caption(half, scene) == judgment


TWO = make_scene(("red", "circle", 0.5, 0.2, SMALL), ("blue", "square", 0.52, 0.7, LARGE))
WRONG_COUNT_OF_TWO = "wrong count: the scene has a large blue square and a small red circle"
CIRCLES = make_scene(
    ("red", "circle", 0.2, 0.2, SMALL),
    ("red", "circle", 0.8, 0.3, SMALL),
    ("blue", "circle", 0.3, 0.7, LARGE),
)
WRONG_COUNT_OF_CIRCLES = "wrong count: the scene has two small red circles and a large blue circle"
DIAGONAL = make_scene(("red", "circle", 0.2, 0.2, SMALL), ("blue", "square", 0.7, 0.7, LARGE))


@pytest.mark.parametrize(
    ("caption", "scene", "expected"),
    [
        ("a small red circle above a large blue square", TWO, "correct"),
        ("a blue square below one small circle", TWO, "correct"),
        ("a small green circle above a large blue square", TWO, "wrong color: red, not green"),
        ("a large red circle above a large blue square", TWO, "wrong size: small, not large"),
        ("a small red star and a large blue square", TWO, "wrong shape: circle, not star"),
        ("a large green star", TWO, "no such object: a large green star"),
        ("an orange cross", TWO, "no such object: an orange cross"),
        ("two red circles", TWO, WRONG_COUNT_OF_TWO),
        ("a red circle and a red circle", TWO, WRONG_COUNT_OF_TWO),
        ("a red circle left of a blue square", TWO, "wrong relation: not left of"),
        ("a blue square above a red circle", TWO, "wrong relation: not above"),
        ("a red circle", TWO, "correct, but omits a large blue square"),
        ("a red circle", CIRCLES, WRONG_COUNT_OF_CIRCLES),
        ("two circles", CIRCLES, WRONG_COUNT_OF_CIRCLES),
        ("three circles", CIRCLES, "correct"),
        ("two circles and a circle", CIRCLES, "correct"),
        ("two red circles above a blue circle", CIRCLES, "wrong relation: not above"),
        ("a red circle above a blue square", DIAGONAL, "wrong relation: not above"),
        (
            "a red circle to the left of a blue square",
            DIAGONAL,
            "wrong relation: not to the left of",
        ),
        ("", TWO, "not understood"),
        ("red circle", TWO, "not understood"),
        ("a red circles", TWO, "not understood"),
        ("two red circle", TWO, "not understood"),
        ("a dog", TWO, "not understood"),
        ("a circle above", TWO, "not understood"),
        ("and", TWO, "not understood"),
        ("a red circle above a blue square and a star", TWO, "not understood"),
    ],
)
def test_judgments(caption: str, scene: Scene, expected: str) -> None:
    assert judge_caption(caption, scene) == expected
    assert is_correct(caption, scene) == expected.startswith("correct")


@given(st.text(st.sampled_from("atwo cirle\n\0.é✓")))
def test_any_text_can_be_judged(caption: str) -> None:
    assert judge_caption(caption, TWO) == "not understood"


def test_objects_without_a_clear_relation_are_joined_by_and() -> None:
    assert describe_scene(DIAGONAL) == "a large blue square and a small red circle"


@given(any_scene, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_captions_depend_only_on_relative_positions(scene: Scene, x: float, y: float) -> None:
    moved = [
        SceneObject(item.shape, item.color, item.x + x, item.y + y, item.radius)
        for item in scene.objects
    ]
    assert describe_scene(Scene(tuple(moved), scene.background)) == describe_scene(scene)
