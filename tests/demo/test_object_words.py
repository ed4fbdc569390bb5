"""Which objects the words of captions mean, and the pixels that these cover."""

import numpy as np
import pytest
from hypothesis import given
from random_scenes import any_scene

from cutline.demo.drawing import Background, Scene, SceneObject, draw_mask, draw_scene
from cutline.demo.grammar import describe_scene, find_object_words

BACKGROUND = Background("plain", ((230, 230, 230), (230, 230, 230)))
RED = SceneObject("circle", "red", 0.25, 0.25, 0.2)
STARS = tuple(SceneObject("star", "blue", x, 0.75, 0.1) for x in (0.2, 0.8))
SCENE = Scene((RED, *STARS), BACKGROUND)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("two small blue stars and a large red circle", ["blue", "stars", "red", "circle"]),
        ("a red circle", ["red", "circle"]),
        ("A Circle above two blue stars.", ["Circle", "blue", "stars"]),
        ("a blue circle and two stars", ["stars"]),  # there is no blue circle
        ("a dog", []),
        ("", []),
    ],
)
def test_words_mean_objects(caption: str, words: list[str]) -> None:
    found = find_object_words(caption, SCENE)
    assert [caption[word.start : word.end] for word in found] == words
    for word in found:
        text = caption[word.start : word.end].lower()
        assert word.objects == (STARS if text in ("blue", "stars") else (RED,))
        assert word.kind == ("color" if text in ("blue", "red") else "shape")


@given(any_scene)
def test_the_caption_of_a_scene_means_all_objects(scene: Scene) -> None:
    words = find_object_words(describe_scene(scene), scene)
    assert {item for word in words for item in word.objects} == set(scene.objects)


@given(any_scene)
def test_a_mask_covers_what_an_object_changes(scene: Scene) -> None:
    """A scene without its first object differs there, and nowhere else but at the edge."""
    first, others = scene.objects[:1], scene.objects[1:]
    images = [draw_scene(each, 96) for each in (scene, Scene(others, scene.background))]
    one, two = (np.asarray(image).astype(int) for image in images)
    differs = np.abs(one - two).max(-1) > 0
    mask = draw_mask(first, 96)
    assert not (mask & ~differs).any()
    assert (differs & ~mask).sum() < 0.35 * differs.sum()  # pixels covered by less than half
    assert not (mask & draw_mask(others, 96)).any()
