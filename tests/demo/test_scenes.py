"""Scenes: the splits have the promised content, and written scenes are a dataset."""

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from PIL import Image
from random_scenes import SPLITS, any_scene, get_kinds

from cutline.demo import scenes as scenes_module
from cutline.demo.drawing import COLORS, SHAPES, Scene, draw_scene
from cutline.demo.grammar import describe_scene
from cutline.demo.scenes import (
    HELDOUT_PAIRS,
    SEEN_KINDS,
    UNSEEN_KINDS,
    Split,
    make_scenes,
    write_scenes,
)


def test_splits_differ_in_their_combinations_of_objects() -> None:
    train, heldout, unseen = (
        [get_kinds(scene) for scene in make_scenes(1000, 7, split)] for split in SPLITS
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
        num_held_out = sum(kind in pair for pair in HELDOUT_PAIRS)
        assert 0 < num_held_out < len(SEEN_KINDS) / 4


@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_gives_the_same_scenes(split: Split) -> None:
    assert make_scenes(20, 3, split) == make_scenes(30, 3, split)[:20]
    assert make_scenes(20, 3, split) != make_scenes(20, 4, split)


def test_a_seed_gives_the_same_scenes_in_every_process() -> None:
    """Hashes of strings, and with them the order of sets, differ from process to process."""
    code = (
        "from cutline.demo.scenes import make_scenes; "
        f"print([make_scenes(5, 0, split) for split in {SPLITS}])"
    )
    for hash_seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert result.stdout.strip() == str([make_scenes(5, 0, split) for split in SPLITS])


@given(any_scene)
def test_objects_are_inside_the_frame_and_apart(scene: Scene) -> None:
    assert 2 <= len(scene.objects) <= 3
    for item in scene.objects:
        assert all(item.radius <= center <= 1 - item.radius for center in (item.x, item.y))
    for a, b in combinations(scene.objects, 2):  # the squares around them do not touch
        assert max(abs(a.x - b.x), abs(a.y - b.y)) > a.radius + b.radius


def test_written_scenes_are_images_with_captions(tmp_path: Path) -> None:
    scenes = make_scenes(5, 2)
    path = write_scenes(tmp_path / "new", scenes, size=48)
    assert path == tmp_path / "new" / "captions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["captions"] for row in rows] == [[describe_scene(scene)] for scene in scenes]
    for row, scene in zip(rows, scenes, strict=True):
        with Image.open(path.parent / row["file_name"]) as image:
            assert image.tobytes() == draw_scene(scene, 48).tobytes()


def test_an_interrupted_write_leaves_no_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path, make_scenes(2))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes_module, "draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, make_scenes(2))
    assert not list(tmp_path.glob("*captions*"))
