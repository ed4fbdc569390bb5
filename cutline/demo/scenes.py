"""Random scenes in three splits, and datasets of them.

`drawing` defines scenes and draws them; `grammar` writes and checks their captions.
"""

import colorsys
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Literal

from cutline.demo.drawing import (
    COLORS,
    LARGE_RADIUS,
    PATTERNS,
    SHAPES,
    SMALL_RADIUS,
    Background,
    Color,
    Scene,
    SceneObject,
    draw_scene,
)
from cutline.demo.grammar import describe_scene
from cutline.errors import ConfigError
from cutline.files import write_text

Split = Literal["train", "heldout", "unseen_combination"]
Kind = tuple[str, str]
"""color and shape of an object"""

SCENE_NAME = "scene-{:06d}.png"
"""file name of a scene, by its number"""

UNSEEN_KINDS: frozenset[Kind] = frozenset(
    {
        ("red", "triangle"),
        ("yellow", "circle"),
        ("green", "star"),
        ("blue", "cross"),
        ("purple", "square"),
    }
)
"""kinds that no training scene contains, although many contain their colors and shapes"""
SEEN_KINDS: tuple[Kind, ...] = tuple(
    kind for kind in product(COLORS, SHAPES) if kind not in UNSEEN_KINDS
)
"""all other kinds"""
HELDOUT_PAIRS: frozenset[frozenset[Kind]] = frozenset(
    frozenset((SEEN_KINDS[i], SEEN_KINDS[j]))
    for i, j in combinations(range(len(SEEN_KINDS)), 2)
    if (i + j) % 7 == 3
)
"""pairs of kinds that no training scene contains together: one pair in seven"""

LATTICE = 8
"""number of lattice steps across the image; objects are near lattice points. In 64 pixels, these
are at the corners of 16-pixel patches and halfway between, so that patches cut shapes in few
different ways and a small model learns them in minutes"""
JITTER = 0.012
"""maximum distance of an object from its lattice point, in x and in y"""
GAP = 0.02
"""minimum space between two objects"""

# Sorted, because the order of a set of strings differs from process to process.
_HELDOUT = sorted(sorted(pair) for pair in HELDOUT_PAIRS)
_UNSEEN = sorted(UNSEEN_KINDS)


def make_scenes(count: int, seed: int = 0, split: Split = "train") -> list[Scene]:
    """Return `count` random scenes of two or three objects.

    Args:
        count: Number of scenes.
        seed: The same seed and split always give the same scenes.
        split: Scenes of "train" have one or two kinds of objects (color and shape), but no pair of
            HELDOUT_PAIRS and no kind of UNSEEN_KINDS. Each scene of "heldout" has such a pair, and
            each of "unseen_combination" one such kind.
    """
    rng = random.Random(f"{split} {seed}")
    return [Scene(_make_objects(rng, split), _make_background(rng)) for _ in range(count)]


def check_drawn_folder(folder: Path, scenes: Path) -> None:
    """Check that files in `folder` may be replaced: it is new or empty, or `scenes` has scenes.

    Raises:
        ConfigError: The folder contains other files.
    """
    drawn = (scenes / SCENE_NAME.format(0)).is_file()
    others = [path for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else []
    if others and not drawn:
        raise ConfigError(f"{folder}: contains other files; name a new or an empty folder")


def write_scenes(
    folder: str | Path,
    scenes: Iterable[Scene],
    size: int = 64,
    captions_of: Callable[[Scene], Sequence[str]] = lambda scene: [describe_scene(scene)],
) -> Path:
    """Draw scenes into `folder` as a dataset.

    Args:
        folder: Folder for the PNG images and `captions.jsonl`.
        scenes: The scenes.
        size: Width and height of the images in pixels.
        captions_of: Returns the captions of a scene (default: the one of `describe_scene`).

    Returns:
        The path of `captions.jsonl`. It is written last: an interrupted call leaves no dataset.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    captions = folder / "captions.jsonl"
    captions.unlink(missing_ok=True)
    lines = []
    for i, scene in enumerate(scenes):
        name = SCENE_NAME.format(i)
        draw_scene(scene, size).save(folder / name)
        lines.append(json.dumps({"file_name": name, "captions": list(captions_of(scene))}) + "\n")
    write_text(captions, "".join(lines))
    return captions


def _make_objects(rng: random.Random, split: Split) -> tuple[SceneObject, ...]:
    """Return the objects of a scene in one of three arrangements.

    These are two objects in a clear relation (60 %), two equal objects and one of another kind
    (25 %), or two or three equal objects (15 %). The last has only one kind, so held-out scenes
    never use it: theirs are 71 % and 29 %.
    """
    kinds = _choose_kinds(rng, split)
    arrangement = rng.random() * (0.85 if split == "heldout" else 1.0)
    if arrangement >= 0.85:
        count = rng.choice((2, 3))
        return _scatter(rng, kinds[:1] * count, _choose_radii(rng, count))
    rng.shuffle(kinds)
    if arrangement >= 0.6:
        return _scatter(rng, [kinds[0], *kinds], _choose_radii(rng, 2) + _choose_radii(rng, 1))
    return _relate(rng, *kinds)


def _choose_kinds(rng: random.Random, split: Split) -> list[Kind]:
    """Return two kinds of objects; for "unseen_combination", the first is the unseen one."""
    if split == "unseen_combination":
        return [rng.choice(_UNSEEN), rng.choice(SEEN_KINDS)]
    if split == "heldout":
        return list(rng.choice(_HELDOUT))
    while True:
        pair = rng.sample(SEEN_KINDS, 2)
        if frozenset(pair) not in HELDOUT_PAIRS:
            return pair


def _choose_radii(rng: random.Random, count: int) -> list[float]:
    """Return the radii of a group of objects of one size."""
    low, high = rng.choice((SMALL_RADIUS, LARGE_RADIUS))
    return [rng.uniform(low, high) for _ in range(count)]


def _relate(rng: random.Random, first: Kind, second: Kind) -> tuple[SceneObject, ...]:
    """Return two objects near opposite edges and in line, so that exactly one relation holds."""
    is_vertical = rng.random() < 0.5
    line = rng.choice((3, 4, 5))
    objects = []
    for kind, edge, step in ((first, 0, 1), (second, LATTICE, -1)):
        (radius,) = _choose_radii(rng, 1)
        # One step from the edge, only a small object fits into the image.
        offset = rng.choice((1, 2)) if (radius + JITTER) * LATTICE <= 1 else 2
        along = edge + step * offset
        x, y = (line, along) if is_vertical else (along, line)
        objects.append(_place_object(rng, kind, x / LATTICE, y / LATTICE, radius))
    return tuple(objects)


def _scatter(
    rng: random.Random, kinds: Sequence[Kind], radii: Sequence[float]
) -> tuple[SceneObject, ...]:
    """Return objects at random positions, drawn again until none are too close."""
    while True:
        objects: list[SceneObject] = []
        for kind, radius in zip(kinds, radii, strict=True):
            x, y = _choose_coordinate(rng, radius), _choose_coordinate(rng, radius)
            item = _place_object(rng, kind, x, y, radius)
            if not all(_are_apart(item, other) for other in objects):
                break
            objects.append(item)
        else:
            return tuple(objects)


def _choose_coordinate(rng: random.Random, radius: float) -> float:
    """Return a coordinate on the lattice at which an object of this radius is inside the frame."""
    first = math.ceil((radius + JITTER) * LATTICE)
    return rng.randint(first, LATTICE - first) / LATTICE


def _place_object(rng: random.Random, kind: Kind, x: float, y: float, radius: float) -> SceneObject:
    color, shape = kind
    x, y = x + rng.uniform(-JITTER, JITTER), y + rng.uniform(-JITTER, JITTER)
    return SceneObject(shape, color, x, y, radius)


def _are_apart(a: SceneObject, b: SceneObject) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + GAP


def _make_background(rng: random.Random) -> Background:
    lightness = rng.uniform(0.75, 0.95)
    return Background(
        pattern=rng.choice(tuple(PATTERNS)),
        tints=(_choose_tint(rng, lightness), _choose_tint(rng, lightness)),
        angle=rng.uniform(0, 2 * math.pi),
        periods=rng.uniform(3, 8),
        seed=rng.randrange(2**32),
    )


def _choose_tint(rng: random.Random, lightness: float) -> Color:
    """Return a pale color, unlike all of COLORS, which are more saturated or darker."""
    hue, saturation = rng.random(), rng.uniform(0.03, 0.14)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, lightness + rng.uniform(-0.04, 0.04))
    return round(255 * red), round(255 * green), round(255 * blue)
