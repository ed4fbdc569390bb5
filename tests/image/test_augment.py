"""Augmentation: crops as torchvision draws them, operations as the reference computes them, repeated by the same rng."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Transpose

from cutline.config import DataConfig
from cutline.image import augment
from cutline.image.augment import OPERATIONS, crop_box, randaugment

PLAIN = DataConfig(crop_scale=(1.0, 1.0), flip=False, randaugment=False)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def image_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# -------------------------------------------------------------------------------------------------------------- crops


@settings(max_examples=200)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    seed=st.integers(),
)
def test_crops_lie_within_the_picture(
    width: int, height: int, low: float, high: float, seed: int
) -> None:
    left, top, right, bottom = crop_box(
        width, height, (min(low, high), max(low, high)), random.Random(seed)
    )
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@settings(max_examples=200)
@given(width=st.integers(300, 3000), height=st.integers(300, 3000), seed=st.integers())
def test_area_and_ratio_are_in_range(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = crop_box(width, height, (0.2, 0.5), random.Random(seed))
    w, h = right - left, bottom - top
    rounding = 1 / min(w, h)
    assert 3 / 4 * (1 - rounding) <= w / h <= 4 / 3 * (1 + rounding)
    if 4 / 5 <= width / height <= 5 / 4:  # then ten misfits in a row do not happen
        assert 0.2 * (1 - 2 * rounding) <= w * h / (width * height) <= 0.5 * (1 + 2 * rounding)


def test_crops_are_spread_as_torchvision_s() -> None:
    rng = random.Random(0)
    boxes = np.array([crop_box(1000, 1000, (0.1, 0.4), rng) for _ in range(4000)])
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
def test_where_no_crop_fits_the_centre_is_taken(
    width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    assert crop_box(width, height, (1.0, 1.0), random.Random(0)) == box


# ------------------------------------------------------------------------------------------------------------ augment


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(),
    size=st.integers(1, 50),
    flip=st.booleans(),
    turns=st.booleans(),
    operations=st.booleans(),
    low=st.floats(0.05, 1),
)
def test_the_same_rng_makes_the_same_picture(
    seed: int, size: int, flip: bool, turns: bool, operations: bool, low: float
) -> None:
    data = DataConfig(crop_scale=(low, 1.0), flip=flip, quarter_turns=turns, randaugment=operations)
    random.seed(1)
    first = augment(image_of(PIXELS), size, data, random.Random(seed))
    random.seed(2)  # the global generator plays no part
    second = augment(image_of(PIXELS), size, data, random.Random(seed))
    assert first.size == (size, size)
    assert first.mode == "RGB"
    assert first.tobytes() == second.tobytes()


def test_a_resumed_rng_goes_on_as_the_first_did() -> None:
    rng = random.Random(3)
    augment(image_of(PIXELS), 16, DataConfig(), rng)
    state = rng.getstate()
    first = [augment(image_of(PIXELS), 16, DataConfig(), rng).tobytes() for _ in range(5)]
    rng.setstate(state)
    assert [augment(image_of(PIXELS), 16, DataConfig(), rng).tobytes() for _ in range(5)] == first
    assert len(set(first)) == 5


def test_the_picture_itself_is_left_alone() -> None:
    image = image_of(PIXELS)
    for seed in range(20):
        augment(image, 24, DataConfig(quarter_turns=True), random.Random(seed))
    assert image.tobytes() == PIXELS.tobytes()


def test_the_crop_is_cut_out_before_it_is_resized() -> None:
    image, data = image_of(PIXELS), DataConfig(crop_scale=(0.3, 0.6), flip=False, randaugment=False)
    box = crop_box(60, 40, data.crop_scale, random.Random(5))
    expected = image.crop(box).resize((20, 20), Image.Resampling.BICUBIC)
    assert augment(image, 20, data, random.Random(5)).tobytes() == expected.tobytes()


def views(image: Image.Image, **changes: bool) -> set[bytes]:
    """All that 60 seeds make of an image that is not cropped: no other crop of its whole area fits a square."""
    data = replace(PLAIN, **changes)
    return {augment(image, 32, data, random.Random(seed)).tobytes() for seed in range(60)}


def test_flips_and_quarter_turns_are_exact() -> None:
    square = image_of(PIXELS[:32, :32])
    turned = [
        square,
        *(
            square.transpose(turn)
            for turn in (Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)
        ),
    ]
    mirrored = [image.transpose(Transpose.FLIP_LEFT_RIGHT) for image in turned]
    assert views(square) == {square.tobytes()}
    assert views(square, flip=True) == {square.tobytes(), mirrored[0].tobytes()}
    assert views(square, quarter_turns=True) == {image.tobytes() for image in turned}
    assert views(square, quarter_turns=True, flip=True) == {
        image.tobytes() for image in turned + mirrored
    }


def test_large_crops_make_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert augment(image_of(PIXELS), 8, PLAIN, random.Random(0)).size == (8, 8)


# -------------------------------------------------------------------------------------------------------- RandAugment


def test_the_ten_operations_of_the_reference() -> None:
    assert set(OPERATIONS) == {
        *("identity", "auto_contrast", "brightness", "sharpness", "equalize"),
        *("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    }


@pytest.mark.parametrize("name", ["identity", "brightness", "sharpness"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_operations_that_change_nothing_at_magnitude_5(name: str, sign: int) -> None:
    assert OPERATIONS[name](image_of(PIXELS), sign).tobytes() == PIXELS.tobytes()


def contrast_table(channel: np.ndarray) -> np.ndarray:
    """BLIP, transform/randaugment.py, autocontrast_func."""
    low, high = int(channel.min()), int(channel.max())
    if high <= low:
        return channel
    scale = 255 / (high - low)
    return (np.arange(256) * scale - low * scale).clip(0, 255).astype(np.uint8)[channel]


def equalize_table(channel: np.ndarray) -> np.ndarray:
    """BLIP, transform/randaugment.py, equalize_func."""
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
def test_contrast_and_equalize_are_the_reference_s(
    name: str, table, seed: int, low: int, span: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.stack(
        [rng.integers(low, min(256, low + 1 + span // k), (side, side)) for k in (1, 2, 50)], axis=2
    ).astype(np.uint8)
    expected = np.stack([table(pixels[:, :, channel]) for channel in range(3)], axis=2)
    np.testing.assert_array_equal(array(OPERATIONS[name](image_of(pixels), 1)), expected)


def warped(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """OpenCV's warpAffine in plain numpy: forward `matrix` (2, 3), bilinear, grey all around."""
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


def rotation(degrees: float, x: float, y: float) -> np.ndarray:
    """OpenCV's getRotationMatrix2D: positive angles turn counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin, (1 - cos) * x - sin * y], [-sin, cos, sin * x + (1 - cos) * y]])


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_warps_are_the_reference_s_within_one_grey_level(name: str, sign: int) -> None:
    matrix = {
        "shear_x": np.array([[1, sign * 0.15, 0], [0, 1, 0]]),
        "shear_y": np.array([[1, 0, 0], [sign * 0.15, 1, 0]]),
        "translate_x": np.array([[1, 0, -sign * 5.0], [0, 1, 0]]),
        "translate_y": np.array([[1, 0, 0], [0, 1, -sign * 5.0]]),
        "rotate": rotation(sign * 15, 30, 20),
    }[name]
    expected = warped(PIXELS, matrix)
    got = array(OPERATIONS[name](image_of(PIXELS), sign))
    assert np.abs(got - expected).max() < 1.001  # Pillow rounds down
    assert np.abs(got - PIXELS).mean() > 10  # something did happen
    if name.startswith("translate"):
        np.testing.assert_array_equal(got, expected)


def test_two_draws_each_applied_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[tuple[str, int]] = []
    for name in OPERATIONS:
        monkeypatch.setitem(
            OPERATIONS, name, lambda image, sign, name=name: applied.append((name, sign)) or image
        )
    rng, counts = random.Random(0), []
    for _ in range(4000):
        before = len(applied)
        randaugment(image_of(PIXELS), rng)
        counts.append(len(applied) - before)
    assert np.bincount(counts) / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    names, signs = zip(*applied, strict=True)
    for name in OPERATIONS:
        assert names.count(name) / len(names) == pytest.approx(0.1, abs=0.02)
    assert np.mean(signs) == pytest.approx(0, abs=0.05)
