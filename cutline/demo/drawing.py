"""Scenes of colored shapes, and how they are drawn.

Positions and radii are fractions of the image's side, with x to the right and y down.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]
Floats = npt.NDArray[np.float64]

OVERSAMPLING = 4
"""shapes are drawn this many times larger and averaged down, so that their edges are smooth"""
OUTLINE = 0.018
"""width of the dark outline of every object, which separates the shape from any background"""
SMALL_RADIUS = (0.1, 0.11)
"""range of the radii of small objects"""
LARGE_RADIUS = (0.19, 0.2)
"""range of the radii of large objects"""

COLORS: dict[str, Color] = {
    "red": (214, 30, 40),
    "orange": (245, 128, 20),
    "yellow": (252, 218, 32),
    "green": (24, 148, 66),
    "blue": (34, 88, 222),
    "purple": (136, 40, 176),
    "black": (24, 24, 28),
}
"""colors of objects: easy to tell from each other and from every background"""


@dataclass(frozen=True)
class SceneObject:
    """A shape that fills the square with center (x, y) and side 2 * `radius`."""

    shape: str
    color: str
    x: float
    y: float
    radius: float

    @property
    def size(self) -> str:
        """Return the size in words, "small" or "large"."""
        return "small" if self.radius < (SMALL_RADIUS[1] + LARGE_RADIUS[0]) / 2 else "large"


@dataclass(frozen=True)
class Background:
    """A pattern of two pale tints."""

    pattern: str
    tints: tuple[Color, Color]
    angle: float = 0.0
    """direction of gradients and stripes, in radians"""
    periods: float = 4.0
    """stripes or checks across the image"""
    seed: int = 0
    """seed of the noise"""


@dataclass(frozen=True)
class Scene:
    """Objects on a background."""

    objects: tuple[SceneObject, ...]
    background: Background


def draw_scene(scene: Scene, size: int = 64) -> Image.Image:
    """Return an RGB image of `size` x `size` pixels; a scene always gives the same pixels."""
    side = size * OVERSAMPLING
    canvas = _draw_background(scene.background, size)
    canvas = canvas.resize((side, side), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    for item in scene.objects:
        width = max(1, round(OUTLINE * side))
        fill, outline = COLORS[item.color], COLORS["black"]
        draw.polygon(_place_outline(item, side), fill=fill, outline=outline, width=width)
    return canvas.reduce(OVERSAMPLING)


def draw_mask(objects: Iterable[SceneObject], size: int = 64) -> npt.NDArray[np.bool_]:
    """Return which pixels of the drawing of a scene, (size, size), show one of these objects.

    Of a pixel at an edge, the object covers at least half.
    """
    side = size * OVERSAMPLING
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for item in objects:
        draw.polygon(_place_outline(item, side), fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING)) >= 128


def _place_outline(item: SceneObject, side: int) -> list[Point]:
    """Return the corners of an object in a drawing of `side` x `side` pixels."""
    return [
        ((item.x + item.radius * u) * side, (item.y + item.radius * v) * side)
        for u, v in OUTLINES[item.shape]
    ]


def _make_polygon(radii: tuple[float, ...], count: int, center: float = 0.0) -> tuple[Point, ...]:
    """Return `count` points around (0, center) at alternating radii, beginning at the top."""
    angles = [2 * math.pi * i / count for i in range(count)]
    return tuple(
        (radii[i % len(radii)] * math.sin(a), center - radii[i % len(radii)] * math.cos(a))
        for i, a in enumerate(angles)
    )


_ARM = 0.34  # half the width of the arms of the cross

OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": _make_polygon((0.96,), 64),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0.0, -0.98), (1.0, 0.82), (-1.0, 0.82)),
    "star": _make_polygon((1.05, 0.44), 10, center=0.05),
    "cross": (
        *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
        *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
    ),
}
"""shape → polygon in the square from -1 to 1"""
SHAPES = tuple(OUTLINES)


def _draw_background(background: Background, size: int) -> Image.Image:
    """Return the background, in which each pixel is a mix of the two tints."""
    axis = (np.arange(size) + 0.5) / size
    mix = PATTERNS[background.pattern](background, axis[None, :], axis[:, None])
    mix = np.broadcast_to(mix, (size, size))[..., None]
    first, second = np.array(background.tints, dtype=np.float64)
    pixels = first + mix * (second - first)  # (size, size, 3)
    return Image.fromarray((pixels + 0.5).astype(np.uint8))


def _project(background: Background, x: Floats, y: Floats) -> Floats:
    """Return the distance from the center in the direction of the pattern: ±0.71 at most."""
    return (x - 0.5) * math.cos(background.angle) + (y - 0.5) * math.sin(background.angle)


def _make_wave(t: Floats, periods: float) -> Floats:
    """Return a wave from -1 to 1 with steep edges."""
    return np.asarray(np.clip(3 * np.sin(2 * math.pi * periods * t), -1, 1))


def _fill_plain(background: Background, x: Floats, y: Floats) -> Floats:
    return np.zeros((1, 1))


def _fill_gradient(background: Background, x: Floats, y: Floats) -> Floats:
    return np.asarray(np.clip(0.5 + _project(background, x, y), 0, 1))


def _fill_noise(background: Background, x: Floats, y: Floats) -> Floats:
    noise = np.random.default_rng(background.seed).random((32, 32))
    return noise[(y * 32).astype(np.intp), (x * 32).astype(np.intp)]


def _fill_stripes(background: Background, x: Floats, y: Floats) -> Floats:
    return 0.5 + _make_wave(_project(background, x, y), background.periods) / 2


def _fill_checks(background: Background, x: Floats, y: Floats) -> Floats:
    return 0.5 + _make_wave(x, background.periods / 2) * _make_wave(y, background.periods / 2) / 2


PATTERNS: dict[str, Callable[[Background, Floats, Floats], Floats]] = {
    "plain": _fill_plain,
    "gradient": _fill_gradient,
    "noise": _fill_noise,
    "stripes": _fill_stripes,
    "checks": _fill_checks,
}
"""pattern → function that returns the fraction of the second tint at (x, y)"""
