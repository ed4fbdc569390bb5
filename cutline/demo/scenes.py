"""Scenes made at random, in three splits, and written as a data set.

What a scene is and how it looks is in `drawing`; its caption, and which captions are true of it, in `wording`.
"""

import colorsys
import json
import math
import random
from collections.abc import Iterable, Sequence
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
from cutline.demo.grammar import describe_scene, is_true_of, verdict
from cutline.files import write_text

__all__ = ["COLORS", "SHAPES", "Background", "Scene", "SceneObject", "Split"]
__all__ += ["describe_scene", "draw_scene", "is_true_of", "make_scenes", "verdict", "write_scenes"]

Split = Literal["train", "heldout", "unseen_combination"]
Kind = tuple[str, str]
"""colour and shape of an object"""

UNSEEN_KINDS: frozenset[Kind] = frozenset(
    {
        ("red", "triangle"),
        ("yellow", "circle"),
        ("green", "star"),
        ("blue", "cross"),
        ("purple", "square"),
    }
)
"""what no training scene contains, though each of these colours and shapes is in many"""
SEEN_KINDS: tuple[Kind, ...] = tuple(
    kind for kind in product(COLORS, SHAPES) if kind not in UNSEEN_KINDS
)
HELDOUT_PAIRS: frozenset[frozenset[Kind]] = frozenset(
    frozenset((SEEN_KINDS[i], SEEN_KINDS[j]))
    for i, j in combinations(range(len(SEEN_KINDS)), 2)
    if (i + j) % 7 == 3
)
"""pairs of objects that are never together in a training scene: one pair in seven"""

LATTICE = 8
"""Objects stand near the crossings of a lattice with this many steps across the image: in 64 pixels, on and halfway
between the corners of 16-pixel patches, so that a small model meets few ways to cut a shape and learns it in minutes."""
JITTER = 0.012
"""most that an object is off its crossing, in x and in y"""
GAP = 0.02
"""least free space between two objects"""


# ------------------------------------------------------------------------------------------------- making scenes


def make_scenes(count: int, seed: int = 0, split: Split = "train") -> list[Scene]:
    """`count` scenes of two or three objects, the same for the same seed and split.

    A "train" scene has one kind of object (colour and shape) or two, but never a pair of HELDOUT_PAIRS nor a kind of
    UNSEEN_KINDS; each "heldout" scene has such a pair, each "unseen_combination" scene has one such kind.
    """
    rng = random.Random(f"{split} {seed}")
    return [Scene(_objects(rng, split), _background(rng)) for _ in range(count)]


def write_scenes(folder: str | Path, scenes: Iterable[Scene], size: int = 64) -> Path:
    """Draw the scenes into `folder` as PNGs of `size` pixels, with `captions.jsonl`, whose path is returned."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    captions = folder / "captions.jsonl"
    captions.unlink(missing_ok=True)  # written last, and only then is the folder a data set
    lines = []
    for i, scene in enumerate(scenes):
        name = f"scene-{i:06d}.png"
        draw_scene(scene, size).save(folder / name)
        lines.append(json.dumps({"file_name": name, "captions": [describe_scene(scene)]}) + "\n")
    write_text(captions, "".join(lines))
    return captions


def _objects(rng: random.Random, split: Split) -> tuple[SceneObject, ...]:
    kinds = _pair(rng, split)
    layout = rng.random() * (0.85 if split == "heldout" else 1.0)
    if layout >= 0.85:
        number = rng.choice((2, 3))
        return _scattered(rng, kinds[:1] * number, _radii(rng, number))
    rng.shuffle(kinds)
    if layout >= 0.6:
        return _scattered(rng, [kinds[0], *kinds], _radii(rng, 2) + _radii(rng, 1))
    return _related(rng, *kinds)


def _pair(rng: random.Random, split: Split) -> list[Kind]:
    """Two kinds of object; where the split asks for one special kind, it comes first."""
    if split == "unseen_combination":
        return [rng.choice(_UNSEEN), rng.choice(SEEN_KINDS)]
    if split == "heldout":
        return list(rng.choice(_HELDOUT))
    while True:
        pair = rng.sample(SEEN_KINDS, 2)
        if frozenset(pair) not in HELDOUT_PAIRS:
            return pair


# in a fixed order: that of a set of strings changes from run to run
_HELDOUT = sorted(sorted(pair) for pair in HELDOUT_PAIRS)
_UNSEEN = sorted(UNSEEN_KINDS)


def _radii(rng: random.Random, number: int) -> list[float]:
    """Radii of a group of objects of one size."""
    low, high = rng.choice((SMALL_RADIUS, LARGE_RADIUS))
    return [rng.uniform(low, high) for _ in range(number)]


def _related(rng: random.Random, first: Kind, second: Kind) -> tuple[SceneObject, ...]:
    """Two objects near opposite edges and in line through the middle: one relation holds and no other."""
    upright = rng.random() < 0.5
    line = rng.choice((3, 4, 5))
    pair = []
    for kind, edge, step in ((first, 0, 1), (second, LATTICE, -1)):
        (radius,) = _radii(rng, 1)
        off = rng.choice((1, 2)) if (radius + JITTER) * LATTICE <= 1 else 2
        place = (line, edge + step * off) if upright else (edge + step * off, line)
        pair.append(_place(rng, kind, place[0] / LATTICE, place[1] / LATTICE, radius))
    return tuple(pair)


def _scattered(
    rng: random.Random, kinds: Sequence[Kind], radii: Sequence[float]
) -> tuple[SceneObject, ...]:
    """Objects anywhere, tried until they are all apart."""
    while True:
        objects: list[SceneObject] = []
        for kind, radius in zip(kinds, radii, strict=True):
            item = _place(rng, kind, _crossing(rng, radius), _crossing(rng, radius), radius)
            if not all(_apart(item, other) for other in objects):
                break
            objects.append(item)
        else:
            return tuple(objects)


def _crossing(rng: random.Random, radius: float) -> float:
    """Somewhere on the lattice where an object of this radius is inside the frame."""
    first = math.ceil((radius + JITTER) * LATTICE)
    return rng.randint(first, LATTICE - first) / LATTICE


def _place(rng: random.Random, kind: Kind, x: float, y: float, radius: float) -> SceneObject:
    color, shape = kind
    return SceneObject(
        shape, color, x + rng.uniform(-JITTER, JITTER), y + rng.uniform(-JITTER, JITTER), radius
    )


def _apart(a: SceneObject, b: SceneObject) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + GAP


def _background(rng: random.Random) -> Background:
    light = rng.uniform(0.75, 0.95)
    return Background(
        pattern=rng.choice(tuple(PATTERNS)),
        tints=(_tint(rng, light), _tint(rng, light)),
        angle=rng.uniform(0, 2 * math.pi),
        periods=rng.uniform(3, 8),
        seed=rng.randrange(2**32),
    )


def _tint(rng: random.Random, light: float) -> Color:
    """Pale: all COLORS are stronger or darker."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.random(), rng.uniform(0.03, 0.14), light + rng.uniform(-0.04, 0.04)
    )
    return round(255 * red), round(255 * green), round(255 * blue)
