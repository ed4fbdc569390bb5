"""Groups of thumbnails that look alike."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.check import near_duplicates
from cutline.check.near_duplicates import Thumbnails, difference_hash, group_near_duplicates

thumbnails = st.binary(min_size=216, max_size=216)


def group(pixels: Thumbnails) -> set[frozenset[int]]:
    return as_sets(group_near_duplicates([thumbnail.tobytes() for thumbnail in pixels]))


def as_sets(groups: list[list[int]]) -> set[frozenset[int]]:
    return {frozenset(group) for group in groups}


@given(st.lists(thumbnails, max_size=12), st.randoms())
def test_groups_do_not_depend_on_the_order(images: list[bytes], rng: random.Random) -> None:
    images = images + [bytes(min(255, level + 3) for level in image) for image in images[::2]]
    order = list(range(len(images)))
    rng.shuffle(order)
    shuffled = group_near_duplicates([images[index] for index in order])
    groups = as_sets(group_near_duplicates(images))
    assert groups == as_sets([[order[index] for index in group] for group in shuffled])
    assert groups or not images


def test_groups_are_those_of_comparing_all_pairs() -> None:
    """On thumbnails that are far apart or nearly equal, comparing bands only saves time."""
    rng = np.random.default_rng(3)
    originals = rng.integers(20, 236, (40, 216))
    images = originals[rng.integers(0, 40, 200)] + rng.integers(-1, 2, (200, 216))
    similar = np.abs(images[:, None] - images[None]).max(axis=2) <= 16
    expected = {frozenset(np.flatnonzero(row).tolist()) for row in similar if row.sum() > 1}
    assert group(images.astype(np.uint8)) == expected


def test_images_on_a_white_background_are_not_all_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their hashes agree in the bands of the background, so all of them share a bucket."""
    rng = np.random.default_rng(1)
    count = 3000
    images = np.full((count, 8, 27), 250, np.uint8)
    images[:, 2:6] = rng.integers(20, 230, (count, 4, 27))
    noise = rng.integers(-1, 2, (200, 8, 27))
    copies = np.clip(images[:200].astype(int) + noise, 0, 255).astype(np.uint8)
    num_compared = []
    compare = near_duplicates._find_similar

    def count_and_compare(index, others, hashes, thumbnails):
        num_compared.append(len(others))
        return compare(index, others, hashes, thumbnails)

    monkeypatch.setattr(near_duplicates, "_find_similar", count_and_compare)
    groups = group(np.concatenate([images, copies]))
    assert groups == {frozenset((index, count + index)) for index in range(200)}
    assert sum(num_compared) < 0.1 * count**2 / 2


def test_many_similar_images_are_one_group() -> None:
    rng = np.random.default_rng(1)
    images = 100 + rng.integers(-1, 2, (1000, 216))
    assert group(images.astype(np.uint8)) == {frozenset(range(1000))}


def test_the_difference_hash_has_a_bit_per_pair_of_neighboring_cells() -> None:
    levels = np.arange(250, 0, -30, dtype=np.uint8)[:9]  # each darker than its left neighbor
    thumbnail = np.tile(np.repeat(levels, 3), 8)[None]
    assert difference_hash(thumbnail)[0] == np.uint64(2**64 - 1)
    assert difference_hash(255 - thumbnail)[0] == 0
    assert difference_hash(np.full((1, 216), 9, np.uint8))[0] == 0
