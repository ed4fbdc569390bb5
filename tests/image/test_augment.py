"""Augmentation: torchvision's random crops, BLIP's RandAugment, repeatable by seed."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Transpose
from PIL.ImageEnhance import Brightness, Color, Contrast

from cutline.config import AugmentConfig
from cutline.image import augment
from cutline.image.augment import (
    OPERATIONS,
    choose_crop_box,
    jitter_colors,
    randaugment,
    rotate,
)

CROP_ONLY = AugmentConfig(crop_scale=(1.0, 1.0), flip=False, randaugment=False)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def make_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def to_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# -------------------------------------------------------------------------------------------- crops


@settings(max_examples=200)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    seed=st.integers(),
)
def test_crops_are_within_the_image(
    width: int, height: int, low: float, high: float, seed: int
) -> None:
    scale = (min(low, high), max(low, high))
    left, top, right, bottom = choose_crop_box(width, height, scale, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@settings(max_examples=200)
@given(width=st.integers(300, 3000), height=st.integers(300, 3000), seed=st.integers())
def test_area_and_aspect_ratio_of_crops_are_in_range(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = choose_crop_box(width, height, (0.2, 0.5), random.Random(seed))
    w, h = right - left, bottom - top
    rounding = 1 / min(w, h)
    assert 3 / 4 * (1 - rounding) <= w / h <= 4 / 3 * (1 + rounding)
    if 4 / 5 <= width / height <= 5 / 4:  # ten crops in a row that do not fit are improbable
        assert 0.2 * (1 - 2 * rounding) <= w * h / (width * height) <= 0.5 * (1 + 2 * rounding)


def test_crops_are_distributed_like_torchvisions() -> None:
    rng = random.Random(0)
    boxes = np.array([choose_crop_box(1000, 1000, (0.1, 0.4), rng) for _ in range(4000)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, ratio = w * h / 1e6, np.log(w / h)
    assert area.mean() == pytest.approx(0.25, abs=0.01)  # uniform
    assert area.std() == pytest.approx(0.3 / math.sqrt(12), abs=0.01)
    assert ratio.mean() == pytest.approx(0, abs=0.02)  # uniform in the logarithm
    assert ratio.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), abs=0.01)
    assert (boxes[:, 0] / (1000 - w)).mean() == pytest.approx(0.5, abs=0.02)
    assert (boxes[:, 1] / (1000 - h)).std() == pytest.approx(1 / math.sqrt(12), abs=0.02)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(1000, 10, (493, 0, 506, 10)), (10, 1000, (0, 493, 10, 506)), (1, 1, (0, 0, 1, 1))],
)
def test_if_no_crop_fits_the_center_is_taken(
    width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    assert choose_crop_box(width, height, (1.0, 1.0), random.Random(0)) == box


# ------------------------------------------------------------------------------------------ augment


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(),
    size=st.integers(1, 50),
    flip=st.booleans(),
    rot90=st.booleans(),
    randaugment=st.booleans(),
    low=st.floats(0.05, 1),
    new=st.booleans(),
)
def test_the_same_rng_state_gives_the_same_image(
    seed: int, size: int, flip: bool, rot90: bool, randaugment: bool, low: float, new: bool
) -> None:
    config = AugmentConfig(crop_scale=(low, 1.0), flip=flip, rot90=rot90, randaugment=randaugment)
    config = replace(config, rotation=180.0, color_jitter=0.5) if new else config
    random.seed(1)
    first = augment(make_image(PIXELS), size, config, random.Random(seed))
    random.seed(2)  # the global generator must not be used
    second = augment(make_image(PIXELS), size, config, random.Random(seed))
    assert first.size == (size, size)
    assert first.mode == "RGB"
    assert first.tobytes() == second.tobytes()


def test_a_restored_rng_repeats_the_augmentation() -> None:
    rng = random.Random(3)
    augment(make_image(PIXELS), 16, AugmentConfig(), rng)
    state = rng.getstate()
    first = [augment(make_image(PIXELS), 16, AugmentConfig(), rng).tobytes() for _ in range(5)]
    rng.setstate(state)
    assert [
        augment(make_image(PIXELS), 16, AugmentConfig(), rng).tobytes() for _ in range(5)
    ] == first
    assert len(set(first)) == 5


def test_the_image_itself_is_not_changed() -> None:
    image = make_image(PIXELS)
    for seed in range(20):
        augment(image, 24, AugmentConfig(rot90=True), random.Random(seed))
    assert image.tobytes() == PIXELS.tobytes()


def test_images_are_cropped_before_they_are_resized() -> None:
    image = make_image(PIXELS)
    config = AugmentConfig(crop_scale=(0.3, 0.6), flip=False, randaugment=False)
    box = choose_crop_box(60, 40, config.crop_scale, random.Random(5))
    expected = image.crop(box).resize((20, 20), Image.Resampling.BICUBIC)
    assert augment(image, 20, config, random.Random(5)).tobytes() == expected.tobytes()


def views(image: Image.Image, **changes: bool) -> set[bytes]:
    """Return the results of 60 seeds for a square image, which a crop of its full area keeps."""
    config = replace(CROP_ONLY, **changes)
    return {augment(image, 32, config, random.Random(seed)).tobytes() for seed in range(60)}


def test_flips_and_rotations_are_exact() -> None:
    square = make_image(PIXELS[:32, :32])
    methods = (Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)
    rotated = [square, *(square.transpose(method) for method in methods)]
    flipped = [image.transpose(Transpose.FLIP_LEFT_RIGHT) for image in rotated]
    assert views(square) == {square.tobytes()}
    assert views(square, flip=True) == {square.tobytes(), flipped[0].tobytes()}
    assert views(square, rot90=True) == {image.tobytes() for image in rotated}
    assert views(square, rot90=True, flip=True) == {image.tobytes() for image in rotated + flipped}


def test_rotations_by_right_angles_are_exact() -> None:
    square = make_image(PIXELS[:32, :32])
    assert rotate(square, 0).tobytes() == square.tobytes()
    for degrees, method in ((90, Transpose.ROTATE_90), (-90, Transpose.ROTATE_270)):
        assert rotate(square, degrees).tobytes() == square.transpose(method).tobytes()


def test_rotated_corners_are_mirror_images() -> None:
    white = make_image(np.full((33, 33, 3), 255))
    assert all(rotate(white, degrees).tobytes() == white.tobytes() for degrees in range(0, 181, 7))
    gradient = make_image(np.broadcast_to(np.arange(64)[:, None, None] * 2 + 60, (64, 64, 3)))
    assert to_array(rotate(gradient, 45)).min() >= 60  # not black


def test_the_angles_of_rotations_are_at_most_the_limit() -> None:
    spot = np.zeros((65, 65, 3))
    spot[32, 60] = 255  # to the right of the center
    angles = []
    for seed in range(200):
        config = replace(CROP_ONLY, rotation=30.0)
        pixels = to_array(augment(make_image(spot), 65, config, random.Random(seed)))[..., 0]
        y, x = np.unravel_index(pixels.argmax(), pixels.shape)
        angles.append(math.degrees(math.atan2(32 - y, x - 32)))
    assert 25 < max(angles) <= 32
    assert -32 <= min(angles) < -25


class FixedRandom(random.Random):
    """Gives the numbers that it was made with."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = list(numbers)

    def uniform(self, a: float, b: float) -> float:
        number = self.numbers.pop(0)
        assert a <= number <= b
        return number


def test_colors_change_as_in_pillow() -> None:
    image = make_image(60 + PIXELS // 4)  # so that nothing is clipped
    for factor in (0.8, 1.0, 1.3):
        for place, enhance in enumerate((Brightness, Contrast, Color)):
            factors = [1.0] * 6
            factors[place] = factor
            ours = jitter_colors(image, 0.4, FixedRandom(*factors))
            difference = to_array(ours) - to_array(enhance(image).enhance(factor))
            assert abs(difference).max() <= 1
    red = jitter_colors(image, 0.4, FixedRandom(1.0, 1.0, 1.0, 1.1, 1.0, 1.0))
    assert np.array_equal(to_array(red)[..., 1:], to_array(image)[..., 1:])
    assert abs(to_array(red)[..., 0] - 1.1 * to_array(image)[..., 0]).max() <= 1


def test_jittered_colors_differ_and_stay_in_range() -> None:
    images = {
        jitter_colors(make_image(PIXELS), 1.0, random.Random(seed)).tobytes() for seed in range(20)
    }
    assert len(images) == 20
    unchanged = jitter_colors(make_image(PIXELS), 0.0, random.Random(0))
    assert abs(to_array(unchanged) - PIXELS).max() <= 1


def test_large_crops_cause_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert augment(make_image(PIXELS), 8, CROP_ONLY, random.Random(0)).size == (8, 8)


# -------------------------------------------------------------------------------------- RandAugment


def test_the_operations_are_the_ten_of_the_reference() -> None:
    assert set(OPERATIONS) == {
        *("identity", "auto_contrast", "brightness", "sharpness", "equalize"),
        *("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    }


@pytest.mark.parametrize("name", ["identity", "brightness", "sharpness"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_some_operations_change_nothing_at_magnitude_5(name: str, sign: int) -> None:
    assert OPERATIONS[name](make_image(PIXELS), sign).tobytes() == PIXELS.tobytes()


def contrast_table(channel: np.ndarray) -> np.ndarray:
    """Compute autocontrast_func of BLIP's transform/randaugment.py."""
    low, high = int(channel.min()), int(channel.max())
    if high <= low:
        return channel
    scale = 255 / (high - low)
    return (np.arange(256) * scale - low * scale).clip(0, 255).astype(np.uint8)[channel]


def equalize_table(channel: np.ndarray) -> np.ndarray:
    """Compute equalize_func of BLIP's transform/randaugment.py."""
    counts = np.bincount(channel.ravel(), minlength=256)
    step = counts[counts > 0][:-1].sum() // 255
    if step == 0:
        return channel
    return (np.cumsum([step // 2, *counts[:-1]]) // step).clip(0, 255).astype(np.uint8)[channel]


@pytest.mark.parametrize(
    ("name", "table"), [("auto_contrast", contrast_table), ("equalize", equalize_table)]
)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    low=st.integers(0, 255),
    span=st.integers(0, 255),
    side=st.integers(1, 40),
)
def test_contrast_and_equalize_equal_the_reference(
    name: str, table, seed: int, low: int, span: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.stack(
        [rng.integers(low, min(256, low + 1 + span // k), (side, side)) for k in (1, 2, 50)], axis=2
    ).astype(np.uint8)
    expected = np.stack([table(pixels[:, :, channel]) for channel in range(3)], axis=2)
    np.testing.assert_array_equal(to_array(OPERATIONS[name](make_image(pixels), 1)), expected)


def warp_affine(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Compute OpenCV's warpAffine with a forward matrix (2, 3), bilinear, on a gray border."""
    height, width, _ = pixels.shape
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    ys, xs = np.mgrid[:height, :width]
    x, y = np.tensordot(inverse[:2], np.stack([xs, ys, np.ones_like(xs)]), axes=1)
    margin = 100
    padded = np.pad(
        pixels.astype(float), ((margin, margin), (margin, margin), (0, 0)), constant_values=128
    )
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = (x - left)[..., None], (y - top)[..., None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return padded[row + margin, column + margin]

    above = at(top, left) * (1 - u) + at(top, left + 1) * u
    below = at(top + 1, left) * (1 - u) + at(top + 1, left + 1) * u
    return above * (1 - v) + below * v


def rotation_matrix(degrees: float, x: float, y: float) -> np.ndarray:
    """Compute OpenCV's getRotationMatrix2D, where positive angles are counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin, (1 - cos) * x - sin * y], [-sin, cos, sin * x + (1 - cos) * y]])


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_warps_equal_the_reference_within_one_gray_level(name: str, sign: int) -> None:
    matrix = {
        "shear_x": np.array([[1, sign * 0.15, 0], [0, 1, 0]]),
        "shear_y": np.array([[1, 0, 0], [sign * 0.15, 1, 0]]),
        "translate_x": np.array([[1, 0, -sign * 5.0], [0, 1, 0]]),
        "translate_y": np.array([[1, 0, 0], [0, 1, -sign * 5.0]]),
        "rotate": rotation_matrix(sign * 15, 30, 20),
    }[name]
    expected = warp_affine(PIXELS, matrix)
    actual = to_array(OPERATIONS[name](make_image(PIXELS), sign))
    assert np.abs(actual - expected).max() < 1.001  # Pillow rounds down
    assert np.abs(actual - PIXELS).mean() > 10  # the image was changed
    if name.startswith("translate"):
        np.testing.assert_array_equal(actual, expected)


def test_two_operations_are_drawn_and_each_is_applied_half_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied: list[tuple[str, int]] = []
    for name in OPERATIONS:
        monkeypatch.setitem(
            OPERATIONS, name, lambda image, sign, name=name: applied.append((name, sign)) or image
        )
    rng, counts = random.Random(0), []
    for _ in range(4000):
        before = len(applied)
        randaugment(make_image(PIXELS), rng)
        counts.append(len(applied) - before)
    assert np.bincount(counts) / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    names, signs = zip(*applied, strict=True)
    for name in OPERATIONS:
        assert names.count(name) / len(names) == pytest.approx(0.1, abs=0.02)
    assert np.mean(signs) == pytest.approx(0, abs=0.05)
