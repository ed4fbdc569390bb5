"""Drawn scenes: their captions are true, changed captions are false, the splits are what they claim."""

import json
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutline.data import scenes as scenes_module
from cutline.demo.drawing import OUTLINES, PATTERNS
from cutline.demo.scenes import (
    COLORS,
    HELDOUT_PAIRS,
    SEEN_KINDS,
    SHAPES,
    UNSEEN_KINDS,
    Background,
    Scene,
    SceneObject,
    Split,
    describe_scene,
    draw_scene,
    is_true_of,
    make_scenes,
    verdict,
    write_scenes,
)

SPLITS: tuple[Split, ...] = ("train", "heldout", "unseen_combination")
RELATIONS = {
    "above": "below",
    "below": "above",
    "to the left of": "to the right of",
    "to the right of": "to the left of",
}
PLAIN = Background("plain", ((200, 205, 210), (200, 205, 210)))
SMALL, LARGE = 0.1, 0.18

any_scene = st.builds(
    lambda seed, split: make_scenes(1, seed, split)[0],
    st.integers(0, 2**31),
    st.sampled_from(SPLITS),
)


def scene(*objects: tuple[str, str, float, float, float]) -> Scene:
    """A scene of (color, shape, x, y, radius)."""
    return Scene(
        tuple(SceneObject(shape, color, x, y, radius) for color, shape, x, y, radius in objects),
        PLAIN,
    )


def kinds(drawn: Scene) -> frozenset[tuple[str, str]]:
    return frozenset((item.color, item.shape) for item in drawn.objects)


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


# ------------------------------------------------------------------------------------------------------- captions


@given(any_scene)
def test_every_description_is_true_and_whole(drawn: Scene) -> None:
    assert verdict(describe_scene(drawn), drawn) == "true"
    assert is_true_of(describe_scene(drawn), drawn)


@given(any_scene, st.data())
def test_any_one_changed_word_makes_a_caption_false(drawn: Scene, data: st.DataObject) -> None:
    words = describe_scene(drawn).split()
    family = [
        ("small", "large"),
        tuple(COLORS),
        SHAPES,
        tuple(map(plural, SHAPES)),
        ("two", "three", "four"),
    ]
    places = [(i, group) for i, word in enumerate(words) for group in family if word in group]
    i, group = data.draw(st.sampled_from(places))
    words[i] = data.draw(st.sampled_from([word for word in group if word != words[i]]))
    assert not is_true_of(" ".join(words), drawn)


@given(any_scene)
def test_one_more_of_anything_is_false(drawn: Scene) -> None:
    caption = describe_scene(drawn)
    more = re.sub(
        r"\ba (\w+ \w+) (\w+)", lambda found: f"two {found[1]} {plural(found[2])}", caption, count=1
    )
    assert more == caption or not is_true_of(more, drawn)


@given(any_scene)
def test_exactly_one_relation_holds_where_one_is_described(drawn: Scene) -> None:
    found = re.fullmatch(r"(.*) (above|to the left of) (.*)", describe_scene(drawn))
    assert (found is None) == (len(drawn.objects) == 3 or len(kinds(drawn)) == 1)
    if found:
        first, relation, second = found.groups()
        said = {
            (a, r, b): is_true_of(f"{a} {r} {b}", drawn)
            for r in RELATIONS
            for a, b in ((first, second), (second, first))
        }
        assert {key for key, value in said.items() if value} == {
            (first, relation, second),
            (second, RELATIONS[relation], first),
        }


@given(any_scene, st.sets(st.sampled_from(["size", "color", "order", "and", "case"])))
def test_other_true_wordings_are_true(drawn: Scene, changes: set[str]) -> None:
    caption = describe_scene(drawn)
    if "size" in changes:
        caption = re.sub(r"\b(small|large) ", "", caption)
    if "color" in changes:
        caption = re.sub(rf"\b({'|'.join(COLORS)}) ", "", caption)
    if "order" in changes and (
        found := re.fullmatch(rf"(.*) ({'|'.join(RELATIONS)}|and) (.*)", caption)
    ):
        caption = f"{found[3]} {RELATIONS.get(found[2], 'and')} {found[1]}"
    if "and" in changes:
        caption = re.sub("|".join(RELATIONS), "and", caption)
    if "case" in changes:
        caption = caption.capitalize().replace("to the ", "on the ") + "."
    assert is_true_of(caption, drawn), verdict(caption, drawn)


@given(any_scene)
def test_half_a_caption_is_true_and_says_what_it_leaves_out(drawn: Scene) -> None:
    halves = re.split(r" (?:above|to the left of|and) ", describe_scene(drawn))
    for half, other in zip(halves, reversed(halves), strict=True):
        assert verdict(half, drawn) == (
            "true" if len(halves) == 1 else f"true, but leaves out {other}"
        )


TWO = scene(("red", "circle", 0.5, 0.2, SMALL), ("blue", "square", 0.52, 0.7, LARGE))
CIRCLES = scene(
    ("red", "circle", 0.2, 0.2, SMALL),
    ("red", "circle", 0.8, 0.3, SMALL),
    ("blue", "circle", 0.3, 0.7, LARGE),
)
DIAGONAL = scene(("red", "circle", 0.2, 0.2, SMALL), ("blue", "square", 0.7, 0.7, LARGE))


@pytest.mark.parametrize(
    ("caption", "drawn", "expected"),
    [
        ("a small red circle above a large blue square", TWO, "true"),
        ("a blue square below one small circle", TWO, "true"),
        ("a small green circle above a large blue square", TWO, "wrong colour: red, not green"),
        ("a large red circle above a large blue square", TWO, "wrong size: small, not large"),
        ("a small red star and a large blue square", TWO, "wrong shape: circle, not star"),
        ("a large green star", TWO, "no such object: a large green star"),
        ("an orange cross", TWO, "no such object: an orange cross"),
        (
            "two red circles",
            TWO,
            "wrong count: the scene has a large blue square and a small red circle",
        ),
        (
            "a red circle and a red circle",
            TWO,
            "wrong count: the scene has a large blue square and a small red circle",
        ),
        ("a red circle left of a blue square", TWO, "no such relation: not left of"),
        ("a blue square above a red circle", TWO, "no such relation: not above"),
        ("a red circle", TWO, "true, but leaves out a large blue square"),
        (
            "a red circle",
            CIRCLES,
            "wrong count: the scene has two small red circles and a large blue circle",
        ),
        (
            "two circles",
            CIRCLES,
            "wrong count: the scene has two small red circles and a large blue circle",
        ),
        ("three circles", CIRCLES, "true"),
        ("two circles and a circle", CIRCLES, "true"),
        ("two red circles above a blue circle", CIRCLES, "no such relation: not above"),
        ("a red circle above a blue square", DIAGONAL, "no such relation: not above"),
        (
            "a red circle to the left of a blue square",
            DIAGONAL,
            "no such relation: not to the left of",
        ),
        *[
            (text, TWO, "not understood")
            for text in (
                "",
                "red circle",
                "a red circles",
                "two red circle",
                "a dog",
                "a circle above",
                "and",
            )
        ],
        ("a red circle above a blue square and a star", TWO, "not understood"),
    ],
)
def test_verdicts(caption: str, drawn: Scene, expected: str) -> None:
    assert verdict(caption, drawn) == expected
    assert is_true_of(caption, drawn) == expected.startswith("true")


@given(st.text(st.sampled_from("atwo cirle\n\0.é✓")))
def test_no_text_is_too_strange(caption: str) -> None:
    assert verdict(caption, TWO) == "not understood"


def test_a_pair_without_a_clear_relation_is_joined_by_and() -> None:
    assert describe_scene(DIAGONAL) == "a large blue square and a small red circle"


@given(any_scene, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_truth_depends_on_positions_only_relative_to_each_other(
    drawn: Scene, x: float, y: float
) -> None:
    moved = [
        SceneObject(item.shape, item.color, item.x + x, item.y + y, item.radius)
        for item in drawn.objects
    ]
    assert describe_scene(Scene(tuple(moved), drawn.background)) == describe_scene(drawn)


# --------------------------------------------------------------------------------------------------------- splits


def test_splits_keep_what_they_promise() -> None:
    train, heldout, unseen = (
        [kinds(drawn) for drawn in make_scenes(1000, 7, split)] for split in SPLITS
    )
    assert not {pair for pair in train if len(pair) == 2} & set(heldout)
    assert set(heldout) == HELDOUT_PAIRS  # each of them occurs, and nothing else
    assert frozenset().union(*train) == set(SEEN_KINDS) == frozenset().union(*heldout)
    assert all(len(pair & UNSEEN_KINDS) == 1 for pair in unseen)
    assert {color for color, _ in SEEN_KINDS} == set(COLORS)
    assert {shape for _, shape in SEEN_KINDS} == set(SHAPES)
    assert {color for color, _ in UNSEEN_KINDS} < set(COLORS)


def test_every_held_out_object_has_training_partners() -> None:
    for kind in SEEN_KINDS:
        held_out = sum(kind in pair for pair in HELDOUT_PAIRS)
        assert 0 < held_out < len(SEEN_KINDS) / 4


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_are_the_same_for_the_same_seed(split: Split) -> None:
    assert make_scenes(20, 3, split) == make_scenes(30, 3, split)[:20]
    assert make_scenes(20, 3, split) != make_scenes(20, 4, split)


def test_scenes_are_the_same_in_every_process() -> None:
    """Hashes of strings, and with them the order of sets, differ from process to process; scenes must not."""
    code = f"from cutline.demo.scenes import make_scenes; print([make_scenes(5, 0, split) for split in {SPLITS}])"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        found = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert found.stdout.strip() == str([make_scenes(5, 0, split) for split in SPLITS])


# ------------------------------------------------------------------------------------------------------- geometry


@given(any_scene)
def test_objects_are_inside_the_frame_and_apart(drawn: Scene) -> None:
    assert 2 <= len(drawn.objects) <= 3
    for item in drawn.objects:
        assert all(item.radius <= at <= 1 - item.radius for at in (item.x, item.y))
    for a, b in combinations(drawn.objects, 2):
        assert (
            max(abs(a.x - b.x), abs(a.y - b.y)) > a.radius + b.radius
        )  # the squares around them do not touch


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_fill_their_square(shape: str) -> None:
    reach = np.abs(OUTLINES[shape]).max(axis=0)
    assert (reach <= 1).all()
    assert (reach > 0.85).all()


@given(any_scene, st.sampled_from([64, 100]))
@settings(deadline=None)
def test_pictures_show_the_objects_and_nothing_else(drawn: Scene, size: int) -> None:
    pixels = np.asarray(draw_scene(drawn, size)).astype(int)
    assert pixels.shape == (size, size, 3)
    empty = np.ones((size, size), dtype=bool)
    for item in drawn.objects:
        assert (
            np.abs(pixels[int(item.y * size), int(item.x * size)] - COLORS[item.color]).max() <= 2
        )
        low_x, high_x, low_y, high_y = (
            int(size * (at + item.radius * side)) + side
            for at in (item.x, item.y)
            for side in (-1, 1)
        )
        empty[max(low_y, 0) : high_y + 1, max(low_x, 0) : high_x + 1] = False
    for color in COLORS.values():
        assert (
            np.linalg.norm(pixels[empty] - color, axis=1).min() > 80
        )  # no background looks like an object


def test_colors_are_well_apart() -> None:
    for one, other in combinations(COLORS.values(), 2):
        assert np.linalg.norm(np.subtract(one, other)) > 80


@pytest.mark.parametrize("pattern", PATTERNS)
def test_backgrounds_stay_between_their_tints(pattern: str) -> None:
    tints = ((180, 190, 200), (220, 200, 230))
    pixels = np.asarray(
        draw_scene(Scene((), Background(pattern, tints, angle=1.0, periods=5.0, seed=1)))
    )
    assert (pixels >= np.minimum(*tints)).all()
    assert (pixels <= np.maximum(*tints)).all()
    assert (len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1) == (pattern == "plain")


def test_drawing_twice_gives_the_same_pixels() -> None:
    for drawn in make_scenes(20, 5):
        assert draw_scene(drawn).tobytes() == draw_scene(drawn).tobytes()


# -------------------------------------------------------------------------------------------------------- writing


def test_written_scenes_are_pictures_with_captions(tmp_path: Path) -> None:
    drawn = make_scenes(5, 2)
    path = write_scenes(tmp_path / "new", drawn, size=48)
    assert path == tmp_path / "new" / "captions.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["captions"] for record in records] == [[describe_scene(item)] for item in drawn]
    for record, item in zip(records, drawn, strict=True):
        with Image.open(path.parent / record["file_name"]) as image:
            assert image.tobytes() == draw_scene(item, 48).tobytes()


def test_a_broken_run_leaves_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path, make_scenes(2))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes_module, "draw_scene", fail)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, make_scenes(2))
    assert not list(tmp_path.glob("*captions*"))
