"""AUROC with its interval, and wrong pairs found by a threshold."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from cutline.errors import ConfigError, DataError
from cutline.metrics.classification import (
    bootstrap_auroc,
    compute_auroc,
    detect_wrong_pairs,
    resample_auroc,
)


def brute_force(scores: np.ndarray, right: np.ndarray) -> float:
    """Compare every right pair with every wrong one."""
    pairs = list(product(scores[right], scores[~right]))
    return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)


def random_pairs(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = rng.random(count) < 0.7
    return rng.integers(0, 6, count) + 2 * right, right  # many ties


@pytest.mark.parametrize("seed", range(6))
def test_auroc_compares_all_pairs(seed: int) -> None:
    scores, right = random_pairs(seed)
    assert compute_auroc(scores, right) == pytest.approx(brute_force(scores, right))
    assert compute_auroc(-scores, right) == pytest.approx(1 - brute_force(scores, right))


def test_limits_of_auroc() -> None:
    right = [False, False, True, True]
    assert compute_auroc([0, 1, 2, 3], right) == 1
    assert compute_auroc([3, 2, 1, 0], right) == 0
    assert compute_auroc([1, 1, 1, 1], right) == 0.5
    assert compute_auroc([-np.inf, 0, 0, np.inf], right) == 0.875
    assert compute_auroc([-np.inf] * 4, right) == 0.5


@pytest.mark.parametrize("right", [[], [True, True], [False]])
def test_auroc_needs_both_kinds(right: list[bool]) -> None:
    with pytest.raises(DataError, match="needs both"):
        compute_auroc([0.5] * len(right), right)


@pytest.mark.parametrize("measure", [compute_auroc, detect_wrong_pairs])
def test_a_score_that_is_not_a_number_is_an_error(measure: Callable[..., object]) -> None:
    """A wrong pair would otherwise be called right."""
    with pytest.raises(DataError, match="not a number"):
        measure([np.nan, 1], [False, True])


@pytest.mark.parametrize("measure", [compute_auroc, detect_wrong_pairs])
@pytest.mark.parametrize(
    ("scores", "right"), [([1.0], [True, False]), ([[1.0, 2.0]], [[True, False]]), (1.0, True)]
)
def test_one_score_belongs_to_each_pair(
    measure: Callable[..., object], scores: object, right: object
) -> None:
    with pytest.raises(DataError, match="one of each per pair"):
        measure(scores, right)


def test_a_resample_draws_whole_groups() -> None:
    """With three groups there are 27 equally likely draws, of which each area is brute force's."""
    scores = np.array([3.0, 1, 2, 2, 5, 0, 2])
    right = np.array([True, False, True, False, True, False, False])
    groups = ["a", "a", "b", "b", "b", "c", "c"]
    expected = set()
    for draw in product("abc", repeat=3):
        rows = [row for group in draw for row, name in enumerate(groups) if name == group]
        if right[rows].any() and not right[rows].all():
            expected.add(round(brute_force(scores[rows], right[rows]), 9))
    areas = resample_auroc(scores, right, groups, 2000, seed=3)
    assert set(areas.round(9).tolist()) == expected
    assert len(areas) == pytest.approx(2000 * 26 / 27, rel=0.02)  # "c" alone has no right pair


def test_interval_contains_the_area_and_narrows_with_more_images() -> None:
    widths = []
    for count in (100, 1600):
        scores, right = random_pairs(1, count)
        low, high = bootstrap_auroc(scores, right, range(count), 300)
        assert low < compute_auroc(scores, right) < high
        widths.append(high - low)
    assert widths[0] / 6 < widths[1] < widths[0] / 2


def test_interval_is_reproducible_and_paired() -> None:
    scores, right = random_pairs(2)
    groups = [row // 2 for row in range(len(scores))]
    areas = resample_auroc(scores, right, groups, 50, seed=1)
    assert (areas == resample_auroc(scores * 2 + 1, right, groups, 50, seed=1)).all()
    assert (areas != resample_auroc(scores, right, groups, 50, seed=2)).any()
    with pytest.raises(ConfigError, match="resamples"):
        resample_auroc(scores, right, groups, 0)


def test_too_few_groups_have_no_interval() -> None:
    """A resample of these two has both kinds of pairs only if it draws both groups."""
    areas = resample_auroc([1, 0], [True, False], ["a", "b"], 100)
    assert 30 < len(areas) < 70
    single = (resample_auroc([1, 0], [True, False], ["a", "b"], 1, seed) for seed in range(20))
    with pytest.raises(DataError, match="more groups than 2"):
        list(single)
    with pytest.raises(DataError, match="1 groups for 2 pairs"):
        resample_auroc([1, 0], [True, False], ["a"])


def test_copies_of_pairs_do_not_narrow_the_interval() -> None:
    scores, right = random_pairs(4)
    groups = list(range(len(scores)))
    single = bootstrap_auroc(scores, right, groups, 200)
    copied = bootstrap_auroc(np.tile(scores, 5), np.tile(right, 5), groups * 5, 200)
    assert copied == pytest.approx(single)


def test_found_wrong_pairs() -> None:
    result = detect_wrong_pairs([0.1, 0.4, 0.5, 0.9, 0.2], [False, True, False, True, False])
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == pytest.approx(2 / 3)
    assert result.accuracy == pytest.approx(3 / 5)
    assert (result.num_wrong, result.num_pairs) == (3, 5)
    assert detect_wrong_pairs([0.1], [False], 0.05).precision == 0
