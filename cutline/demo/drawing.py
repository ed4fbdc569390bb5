"""Small images of coloured shapes: what a scene is, and how it looks.

All positions and radii are fractions of the image's side, x to the right and y downwards.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]
Field = npt.NDArray[np.float64]

OVERSAMPLING = 4
"""shapes are drawn this many times larger and averaged down, so that their edges are smooth"""
OUTLINE = 0.018
"""width of the dark line around every object: it shows the shape whatever the colour, and on any background"""
SMALL_RADIUS = (0.1, 0.11)
"""radii of small objects"""
LARGE_RADIUS = (0.19, 0.2)
"""radii of large objects"""

COLORS: dict[str, Color] = {
    "red": (214, 30, 40),
    "orange": (245, 128, 20),
    "yellow": (252, 218, 32),
    "green": (24, 148, 66),
    "blue": (34, 88, 222),
    "purple": (136, 40, 176),
    "black": (24, 24, 28),
}
"""what an object is painted with, well apart from each other and from every background"""


@dataclass(frozen=True)
class SceneObject:
    """One shape: its outline fills the square of half side `radius` around (x, y)."""

    shape: str
    color: str
    x: float
    y: float
    radius: float

    @property
    def size(self) -> str:
        """The word for its size, "small" or "large"."""
        return "small" if self.radius < (SMALL_RADIUS[1] + LARGE_RADIUS[0]) / 2 else "large"


@dataclass(frozen=True)
class Background:
    """Two muted tints, mixed in a pattern."""

    pattern: str
    tints: tuple[Color, Color]
    angle: float = 0.0
    """direction of gradients and stripes, in radians"""
    periods: float = 4.0
    """stripes or checks across the image"""
    seed: int = 0
    """of the noise"""


@dataclass(frozen=True)
class Scene:
    """Objects on a background; nothing else, so that a caption can only be checked against what is there."""

    objects: tuple[SceneObject, ...]
    background: Background


def draw_scene(scene: Scene, size: int = 64) -> Image.Image:
    """The scene as an RGB image of `size` by `size` pixels; the same scene always gives the same pixels."""
    side = size * OVERSAMPLING
    canvas = _backdrop(scene.background, size).resize((side, side), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for item in scene.objects:
        outline = [
            ((item.x + item.radius * u) * side, (item.y + item.radius * v) * side)
            for u, v in OUTLINES[item.shape]
        ]
        pen.polygon(
            outline,
            fill=COLORS[item.color],
            outline=COLORS["black"],
            width=max(1, round(OUTLINE * side)),
        )
    return canvas.reduce(OVERSAMPLING)


# ------------------------------------------------------------------------------------------------------- shapes


def _wheel(radii: tuple[float, ...], points: int, center: float = 0.0) -> tuple[Point, ...]:
    """Points around (0, center), the first one straight up, at radii that take turns."""
    angles = [2 * math.pi * i / points for i in range(points)]
    return tuple(
        (radii[i % len(radii)] * math.sin(a), center - radii[i % len(radii)] * math.cos(a))
        for i, a in enumerate(angles)
    )


_ARM = 0.34  # half the width of the cross's arms

OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": _wheel((0.96,), 64),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0.0, -0.98), (1.0, 0.82), (-1.0, 0.82)),
    "star": _wheel((1.05, 0.44), 10, center=0.05),
    "cross": (
        *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
        *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
    ),
}
"""each shape as a polygon inside the square from -1 to 1"""
SHAPES = tuple(OUTLINES)


# -------------------------------------------------------------------------------------------------- backgrounds


def _backdrop(background: Background, size: int) -> Image.Image:
    axis = (np.arange(size) + 0.5) / size
    mix = PATTERNS[background.pattern](
        background, axis[None, :], axis[:, None]
    )  # broadcasts to (size, size)
    one, other = np.array(background.tints, dtype=np.float64)
    pixels = one + np.broadcast_to(mix, (size, size))[..., None] * (other - one)  # (size, size, 3)
    return Image.fromarray((pixels + 0.5).astype(np.uint8))


def _along(background: Background, x: Field, y: Field) -> Field:
    """Distance from the middle of the image in the pattern's direction, in [-0.71, 0.71]."""
    return (x - 0.5) * math.cos(background.angle) + (y - 0.5) * math.sin(background.angle)


def _wave(t: Field, periods: float) -> Field:
    """From -1 to 1 and back, with steep flanks."""
    return np.asarray(np.clip(3 * np.sin(2 * math.pi * periods * t), -1, 1))


def _plain(background: Background, x: Field, y: Field) -> Field:
    return np.zeros((1, 1))


def _gradient(background: Background, x: Field, y: Field) -> Field:
    return np.asarray(np.clip(0.5 + _along(background, x, y), 0, 1))


def _noise(background: Background, x: Field, y: Field) -> Field:
    grain = np.random.default_rng(background.seed).random((32, 32))
    return grain[(y * 32).astype(np.intp), (x * 32).astype(np.intp)]


def _stripes(background: Background, x: Field, y: Field) -> Field:
    return 0.5 + _wave(_along(background, x, y), background.periods) / 2


def _checks(background: Background, x: Field, y: Field) -> Field:
    return 0.5 + _wave(x, background.periods / 2) * _wave(y, background.periods / 2) / 2


PATTERNS: dict[str, Callable[[Background, Field, Field], Field]] = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _stripes,
    "checks": _checks,
}
"""how much of the second tint is at (x, y), in [0, 1]"""
