"""Validation images that are neighbors of training images are reported, and unrelated ones not."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from photos import make_photo

from cutline.check.split import check_split
from cutline.cli.main import run_command
from cutline.config import CaptionText, DataConfig
from cutline.data import Sample, open_data, split_samples
from cutline.data.write import write_captions

NOUNS = [f"noun{n}" for n in range(40)]


def make_captions(scene: int, rng: random.Random) -> tuple[str, ...]:
    """Return captions about the nouns of a scene, of which some are word for word the same."""
    scenes = random.Random(scene)
    nouns = scenes.sample(NOUNS, 3)
    return tuple(" ".join(rng.sample(nouns, 3)) for _ in range(3))


def make_scenes(
    name: Callable[[int, int], str], num_scenes: int = 12, num_frames: int = 15
) -> list[Sample]:
    rng = random.Random(0)
    return [
        Sample(name(scene, frame), make_captions(scene, rng), name(scene, frame))
        for scene in range(num_scenes)
        for frame in range(num_frames)
    ]


def find(samples: Sequence[Sample], **settings: object) -> dict[str, str]:
    data = DataConfig(**{"val_fraction": 0.2, **settings})  # type: ignore[arg-type]
    findings = check_split(*split_samples(samples, data, 0), CaptionText())
    return {finding.kind: finding.detail for finding in findings}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (lambda scene, frame: f"images/ucm_{scene:02}_{frame:03}.jpg", r"ucm_\d+_"),
        (lambda scene, frame: f"images/cam{scene}-f{frame * 25}.jpg", r"cam\d+\-f"),
        (lambda scene, frame: f"videos/v{scene}/{frame:05}.jpg", r"v\d+/"),
        (lambda scene, frame: f"videos/scene {scene}/{hash((scene, frame))}.jpg", r"scene\ \d+/"),
        (lambda scene, frame: f"1_2_3_4_{scene}_{frame}.jpg", r"^(.*?)\d+\D*$"),
    ],
)
def test_neighbors_on_both_sides_are_reported_until_the_suggested_split(
    name: Callable[[int, int], str], pattern: str
) -> None:
    samples = make_scenes(name)
    found = find(samples)
    assert set(found) == {"repeated_across_split", "neighbors_across_split"}
    assert f"`data.group_pattern: '{pattern}'`" in found["neighbors_across_split"]
    assert find(samples, group_pattern=pattern) == {}


def test_frames_of_one_video_are_to_be_split_into_blocks() -> None:
    scenes = make_scenes(lambda scene, frame: f"video/{scene * 15 + frame:05}.jpg")
    assert "with `data.val_selection: blocks`" in find(scenes)["neighbors_across_split"]
    assert find(scenes, val_selection="blocks") == {}


def test_numbered_images_that_are_unrelated_are_not_reported() -> None:
    scenes = make_scenes(lambda scene, frame: f"{scene:03}/{frame:05}.jpg", 200, 1)
    random.Random(1).shuffle(scenes)
    for folder in ("photos", "00000", "train2014"):
        numbered = [replace(s, image=f"{folder}/{n:06}.jpg") for n, s in enumerate(scenes)]
        assert find(numbered) == {}
    shards = [replace(s, image=f"{n // 20:05}/{n:09}.jpg") for n, s in enumerate(scenes)]
    assert find(shards) == {}


def test_a_random_sample_of_numbered_scenes_is_not_a_sequence() -> None:
    numbers = sorted(random.Random(0).sample(range(10**6), 180))
    scenes = make_scenes(lambda scene, frame: f"COCO_{numbers[scene * 15 + frame]:012}.jpg")
    assert "neighbors_across_split" not in find(scenes)


def test_captions_that_all_images_share_are_no_memory() -> None:
    samples = [Sample(f"{n}.jpg", ("a photo",), str(n)) for n in range(100)]
    assert find(samples) == {}


def test_few_images_and_images_without_captions_are_not_judged() -> None:
    scenes = make_scenes(lambda scene, frame: f"s{scene}_{frame}.jpg")
    assert find(scenes[:40]) == {}
    assert find([replace(sample, captions=()) for sample in scenes]) == {}


@pytest.mark.parametrize("name", ["1" * 5000, "", "..", "/", "a\udce9\n1"])
def test_any_name_can_be_checked(name: str) -> None:
    samples = [Sample(b"", ("a",), f"{name}{n or ''}") for n in range(99)]
    assert find(samples, val_selection="blocks") == {}


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        ("coco-mini/", set()),
        ("vi-captions/", set()),
        ("ucm-captions/", {"repeated_across_split", "neighbors_across_split"}),
        ("ucm-captions/block-", set()),
    ],
)
def test_published_data(shared: Path, data: str, kinds: set[str]) -> None:
    train, val = (open_data(shared / "data" / f"{data}{side}.jsonl") for side in ("train", "val"))
    assert {finding.kind for finding in check_split(train, val, CaptionText())} == kinds


def test_check_compares_what_the_recipe_holds_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for n, sample in enumerate(make_scenes(lambda scene, frame: f"s{scene}_{frame}.png", 12, 5)):
        make_photo(n, (40, 40)).save(tmp_path / sample.id)
        rows.append({"file_name": sample.id, "captions": [*sample.captions]})
    write_captions(str(tmp_path / "data.jsonl"), rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {val_fraction: 0.2}")
    command = ["check", f"{tmp_path}/data.jsonl"]
    assert run_command(command) == 0
    assert "validation" not in capsys.readouterr().out
    assert run_command([*command, "--recipe", str(recipe)]) == 0
    out = capsys.readouterr().out
    assert "held out    12 images" in out
    assert "1 validation set consists of neighbors of training images" in out
    recipe.write_text(r"data: {val_fraction: 0.2, group_pattern: 's\d+'}")
    assert run_command([*command, "--recipe", str(recipe)]) == 0
    assert "neighbors" not in capsys.readouterr().out
    recipe.write_text("data: {val_fraction: 0.2, group_pattern: zzz}")
    assert run_command([*command, "--recipe", str(recipe)]) == 1
    assert "data.jsonl: `data.group_pattern` 'zzz' matches no image" in capsys.readouterr().err
