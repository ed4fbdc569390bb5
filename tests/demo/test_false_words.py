"""The false words of captions of scenes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.demo.drawing import Scene, SceneObject
from cutline.demo.false_words import find_false_words
from cutline.demo.grammar import describe_scene, is_correct
from cutline.demo.mistakes import make_false_word_pairs
from cutline.demo.scenes import make_scenes


def find_texts(caption: str, scene: Scene) -> list[str] | None:
    marks = find_false_words(caption, scene)
    if marks is None:
        return None
    return [word for word, is_false in zip(caption.split(), marks, strict=True) if is_false]


def make_scene() -> Scene:
    """Return a small red circle above a large blue star."""
    circle = SceneObject("circle", "red", 0.5, 0.2, 0.1)
    star = SceneObject("star", "blue", 0.5, 0.7, 0.2)
    return Scene((circle, star), make_scenes(1)[0].background)


@pytest.mark.parametrize(
    ("caption", "false"),
    [
        ("a small red circle above a large blue star", []),
        ("a circle", []),
        ("a small green circle above a large blue star", ["green"]),
        ("a large red circle above a large blue star.", ["large"]),
        ("a small red square above a small blue star", ["square", "small"]),
        ("a small red circle below a large blue star", ["below"]),
        ("a small red circle to the left of a large blue star", ["left"]),
        ("a large blue star to the right of a small red circle", ["right"]),
        ("two small red circles and a large blue star", ["two"]),
        ("a dog", None),
    ],
)
def test_false_words_of_examples(caption: str, false: list[str] | None) -> None:
    assert find_texts(caption, make_scene()) == false


@settings(max_examples=4)
@given(st.integers(0, 10**6))
def test_true_captions_have_none_and_others_have_some(seed: int) -> None:
    first, second = make_scenes(2, seed)
    assert find_texts(describe_scene(first), first) == []
    caption = describe_scene(second)
    assert (find_texts(caption, first) == []) == is_correct(caption, first)


def test_the_word_that_was_changed_is_found() -> None:
    """A pair of them may be explained by another word, too: two circles for a circle and a star."""
    pairs = [pair for pair in make_false_word_pairs(60, seed=4) if not pair.is_right]
    found = [find_texts(pair.caption, pair.scene) for pair in pairs]
    assert all(found)
    assert sum(len(words or ()) == 1 for words in found) > len(found) * 0.9
