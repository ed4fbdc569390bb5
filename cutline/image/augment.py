"""Random augmentation of training images: crop, flip, rotation, colors, and RandAugment.

All randomness comes from the `random.Random` passed in, so that a resumed run repeats it.
"""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from cutline.config import AugmentConfig
from cutline.image.open import silence_pillow

Box = tuple[int, int, int, int]  # left, top, right, bottom

_ROTATIONS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
_GRAY = (128, 128, 128)
_GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue, as in Pillow's mode L
_SHEAR = 0.15  # magnitude 5 of 10, here and below
_TRANSLATION = 5  # pixels
_ROTATION = math.radians(15)


def augment(
    image: Image.Image, size: int, config: AugmentConfig, rng: random.Random
) -> Image.Image:
    """Return a random view of an RGB image.

    Args:
        image: RGB image; left unchanged.
        size: Width and height of the result.
        config: The operations to apply.
        rng: Source of the randomness.
    """
    with silence_pillow():  # it warns about large crops
        image = image.crop(choose_crop_box(image.width, image.height, config.crop_scale, rng))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if config.flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if config.rot90 and (turns := rng.randrange(4)):
        image = image.transpose(_ROTATIONS[turns - 1])
    if config.rotation:
        image = rotate(image, rng.uniform(-config.rotation, config.rotation))
    if config.color_jitter:
        image = jitter_colors(image, config.color_jitter, rng)
    return randaugment(image, rng) if config.randaugment else image


def choose_crop_box(width: int, height: int, scale: tuple[float, float], rng: random.Random) -> Box:
    """Return a random crop, chosen as in torchvision's RandomResizedCrop.

    Its aspect ratio is log-uniform in [3/4, 4/3]. If ten crops in a row do not fit into the image,
    the largest central one with an aspect ratio in this range is taken.

    Args:
        width: Width of the image.
        height: Height of the image.
        scale: Range of the area, as a fraction of the image's.
        rng: Source of the randomness.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return _box(rng.randint(0, width - w), rng.randint(0, height - h), w, h)
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return _box((width - w) // 2, (height - h) // 2, w, h)


def _box(left: int, top: int, width: int, height: int) -> Box:
    return left, top, left + width, top + height


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate an image about its center, as if its mirror images were beyond its borders."""
    x, y = (math.ceil(0.21 * side) for side in image.size)  # for a square, (sqrt(2) - 1) / 2
    framed = np.pad(np.asarray(image), ((y, y), (x, x), (0, 0)), mode="symmetric")
    rotated = Image.fromarray(framed).rotate(degrees, Image.Resampling.BILINEAR)
    return rotated.crop((x, y, x + image.width, y + image.height))


def jitter_colors(image: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    """Change brightness, contrast, saturation and color balance by random factors.

    The first three are those of torchvision's ColorJitter, in this order, clipped once at the end.

    Args:
        image: RGB image.
        strength: Factors are from 1 - strength to 1 + strength; those of red, green and blue, which
            come last, a third as far from 1.
        rng: Source of the randomness.
    """
    brightness, contrast, saturation = (rng.uniform(1 - strength, 1 + strength) for _ in range(3))
    balance = [rng.uniform(1 - strength / 3, 1 + strength / 3) for _ in range(3)]
    gray = np.array(_GRAY_WEIGHTS)
    mean = brightness * float(np.asarray(image).mean((0, 1)) @ gray)
    colors = saturation * np.eye(3) + (1 - saturation) * gray  # rows: red, green, blue
    matrix = np.column_stack([brightness * contrast * colors, np.full(3, (1 - contrast) * mean)])
    matrix *= np.array(balance)[:, None]
    return image.convert("RGB", tuple(matrix.flatten().tolist()))


def randaugment(image: Image.Image, rng: random.Random) -> Image.Image:
    """Apply two of ten operations, drawn with replacement, each with probability 1/2.

    The operations and their magnitude are those of BLIP (transform/randaugment.py).
    """
    for name in rng.choices(list(OPERATIONS), k=2):
        if rng.random() < 0.5:
            image = OPERATIONS[name](image, rng.choice((-1, 1)))
    return image


def _identity(image: Image.Image, sign: int) -> Image.Image:
    return image


def _auto_contrast(image: Image.Image, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)  # per channel, without cutoff


def _equalize(image: Image.Image, sign: int) -> Image.Image:
    return ImageOps.equalize(image)  # per channel


def _shear_x(image: Image.Image, sign: int) -> Image.Image:
    return _warp(image, 1, -sign * _SHEAR, 0, 0, 1, 0)


def _shear_y(image: Image.Image, sign: int) -> Image.Image:
    return _warp(image, 1, 0, 0, -sign * _SHEAR, 1, 0)


def _translate_x(image: Image.Image, sign: int) -> Image.Image:
    return _warp(image, 1, 0, sign * _TRANSLATION, 0, 1, 0)


def _translate_y(image: Image.Image, sign: int) -> Image.Image:
    return _warp(image, 1, 0, 0, 0, 1, sign * _TRANSLATION)


def _rotate(image: Image.Image, sign: int) -> Image.Image:
    cos, sin = math.cos(_ROTATION), sign * math.sin(_ROTATION)
    x, y = image.width / 2, image.height / 2
    return _warp(image, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def _warp(
    image: Image.Image, a: float, b: float, c: float, d: float, e: float, f: float
) -> Image.Image:
    """Take the pixel at (x, y) from (ax + by + c, dx + ey + f), with bilinear interpolation.

    This follows OpenCV: coordinates refer to the centers of pixels, where Pillow's refer to their
    corners, half a pixel away. Pixels at the border blend with the gray outside, so the image is
    first framed by one pixel of gray.
    """
    framed = ImageOps.expand(image, 1, _GRAY)
    c, f = c + 1.5 - (a + b) / 2, f + 1.5 - (d + e) / 2
    return framed.transform(
        image.size,
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        Image.Resampling.BILINEAR,
        fillcolor=_GRAY,
    )


OPERATIONS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "brightness": _identity,  # a factor of 1.0 at magnitude 5
    "sharpness": _identity,  # likewise
    "equalize": _equalize,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}
"""RandAugment operations; each takes an image and the sign, -1 or 1, of its magnitude"""
