"""Images of scenes show the objects and nothing else."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scenes import any_scene

from cutline.demo.drawing import (
    COLORS,
    OUTLINES,
    PATTERNS,
    SHAPES,
    Background,
    Scene,
    draw_scene,
)
from cutline.demo.scenes import make_scenes


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_fill_their_square(shape: str) -> None:
    extent = np.abs(OUTLINES[shape]).max(axis=0)
    assert (extent <= 1).all()
    assert (extent > 0.85).all()


@given(any_scene, st.sampled_from([64, 100]))
def test_images_show_the_objects_and_nothing_else(scene: Scene, size: int) -> None:
    pixels = np.asarray(draw_scene(scene, size)).astype(int)
    assert pixels.shape == (size, size, 3)
    is_background = np.ones((size, size), dtype=bool)
    for item in scene.objects:
        center = pixels[int(item.y * size), int(item.x * size)]
        assert np.abs(center - COLORS[item.color]).max() <= 2
        low_x, high_x, low_y, high_y = (
            int(size * (center + item.radius * side)) + side
            for center in (item.x, item.y)
            for side in (-1, 1)
        )
        is_background[max(low_y, 0) : high_y + 1, max(low_x, 0) : high_x + 1] = False
    for color in COLORS.values():  # no background looks like an object
        assert np.linalg.norm(pixels[is_background] - color, axis=1).min() > 80


def test_colors_differ_clearly() -> None:
    for first, second in combinations(COLORS.values(), 2):
        assert np.linalg.norm(np.subtract(first, second)) > 80


@pytest.mark.parametrize("pattern", PATTERNS)
def test_backgrounds_are_between_their_tints(pattern: str) -> None:
    tints = ((180, 190, 200), (220, 200, 230))
    background = Background(pattern, tints, angle=1.0, periods=5.0, seed=1)
    pixels = np.asarray(draw_scene(Scene((), background)))
    assert (pixels >= np.minimum(*tints)).all()
    assert (pixels <= np.maximum(*tints)).all()
    assert (len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1) == (pattern == "plain")


def test_a_scene_always_gives_the_same_pixels() -> None:
    for scene in make_scenes(20, 5):
        assert draw_scene(scene).tobytes() == draw_scene(scene).tobytes()
