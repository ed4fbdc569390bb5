"""Confidence intervals and p-values."""

import dataclasses
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from cutline.errors import ConfigError
from cutline.metrics import (
    CorpusStats,
    bootstrap_intervals,
    collect_stats,
    compare_stats,
    compute_metrics,
)
from cutline.metrics.significance import _draw_swaps, _score_resamples, draw_resamples

WORDS = ["a", "man", "dog", "red", "runs", "on", "the", "beach", "with", "two"]


def make_stats(seed: int, accuracy: float = 0.5, num_images: int = 60) -> CorpusStats:
    """Return statistics of random captions.

    They repeat each word of the first reference with probability `accuracy`; the references do not
    depend on `seed`.
    """
    reference_random, random = Random(0), Random(seed)
    references = [
        [" ".join(reference_random.choices(WORDS, k=8)) for _ in range(2)]
        for _ in range(num_images)
    ]
    captions = [
        " ".join(
            word if random.random() < accuracy else random.choice(WORDS)
            for word in texts[0].split()
        )
        for texts in references
    ]
    return collect_stats(captions, references)


def test_resample_is_scored_as_a_corpus() -> None:
    """BLEU and ROUGE-L are those of a corpus of the drawn images; CIDEr is the mean of theirs."""
    stats = make_stats(1)
    draws = next(draw_resamples(np.random.default_rng(3), len(stats), 4))
    assert (draws.sum(1) == len(stats)).all()
    scores, image_scores = _score_resamples(stats, draws), stats.score_images()
    for row, counts in enumerate(draws.astype(int)):
        drawn = np.repeat(np.arange(len(stats)), counts)
        expected, _ = compute_metrics(
            [" ".join(stats.candidates[index]) for index in drawn],
            [[" ".join(text) for text in stats.references[index]] for index in drawn],
        )
        for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
            assert scores[name][row] == pytest.approx(getattr(expected, name))
        mean_cider = np.mean([image_scores[index].cider for index in drawn])
        assert scores["cider"][row] == pytest.approx(mean_cider)


def test_images_are_drawn_and_swapped_with_equal_probability() -> None:
    rng = np.random.default_rng(0)
    draws = np.concatenate(list(draw_resamples(rng, 11, 3000)))
    assert draws.shape == (3000, 11)
    assert draws.mean(0) == pytest.approx(np.ones(11), abs=0.08)
    assert draws.var(0) == pytest.approx(np.full(11, 10 / 11), abs=0.12)  # of a multinomial
    swaps = np.concatenate(list(_draw_swaps(rng, 11, 3000)))
    assert set(np.unique(swaps)) == {0, 1}
    assert swaps.mean(0) == pytest.approx(np.full(11, 0.5), abs=0.05)


def test_intervals_contain_the_score_and_shrink_with_more_images() -> None:
    small, large = make_stats(1, num_images=40), make_stats(1, num_images=400)
    for stats in (small, large):
        for name, (low, high) in bootstrap_intervals(stats, 300).items():
            assert low < getattr(stats.score_corpus(), name) < high
    widths = [np.diff(bootstrap_intervals(stats)["bleu1"]).item() for stats in (small, large)]
    assert widths[0] / widths[1] == pytest.approx(10**0.5, rel=0.4)


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    stats = make_stats(1, num_images=300)
    ciders = [image.cider for image in stats.score_images()]
    mean, half = np.mean(ciders), 1.96 * np.std(ciders) / 300**0.5
    interval = bootstrap_intervals(stats, 2000)["cider"]
    assert interval == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_same_seed_gives_the_same_numbers() -> None:
    first, second = make_stats(1), make_stats(2)
    intervals = [bootstrap_intervals(first, 50, seed=seed) for seed in (4, 4, 5)]
    assert intervals[0] == intervals[1] != intervals[2]
    differences = [compare_stats(first, second, 50, seed=seed) for seed in (4, 4, 0)]
    assert differences[0] == differences[1] != differences[2]
    assert differences[2] == compare_stats(first, second, 50)


def test_real_difference_is_significant() -> None:
    for difference in compare_stats(make_stats(1, 0.3), make_stats(2, 0.8), 500).values():
        assert difference.value > 0
        assert difference.interval[0] > 0
        assert difference.p_value == pytest.approx(1 / 501)


def test_captioner_does_not_differ_from_itself() -> None:
    for difference in compare_stats(make_stats(1), make_stats(1), 100).values():
        assert (difference.value, difference.interval, difference.p_value) == (0, (0, 0), 1)


def test_equal_captioners_rarely_differ_significantly() -> None:
    """Under the null hypothesis p is below 0.2 in a fifth of the cases."""
    pairs = [[make_stats(2 * seed + side, num_images=15) for side in (0, 1)] for seed in range(40)]
    values = [compare_stats(*pair, 100)["bleu2"].p_value for pair in pairs]
    assert 1 <= sum(value < 0.2 for value in values) <= 18
    assert sum(value < 0.02 for value in values) <= 4


def test_swapping_the_captioners_changes_the_sign() -> None:
    first, second = make_stats(1), make_stats(2)
    forward, backward = compare_stats(first, second, 400), compare_stats(second, first, 400)
    for name, difference in forward.items():
        low, high = difference.interval
        assert backward[name].value == -difference.value
        assert backward[name].interval == pytest.approx((-high, -low))
        assert backward[name].p_value == pytest.approx(difference.p_value)
    scores = [dataclasses.astuple(values["cider"])[:2] for values in (forward, backward)]
    assert scores[0] == scores[1][::-1]


def test_large_sets_are_drawn_in_small_chunks() -> None:
    rng = np.random.default_rng(0)
    for num_images, rows in ((11, 250), (100_000, 41), (5_000_000, 1)):
        for draw in (draw_resamples, _draw_swaps):
            assert len(next(draw(rng, num_images, 300))) == rows
    assert [len(chunk) for chunk in draw_resamples(rng, 11, 600)] == [250, 250, 100]


@pytest.mark.parametrize("resamples", [0, -1])
@pytest.mark.parametrize(
    "compute",
    [
        lambda resamples: bootstrap_intervals(make_stats(1), resamples),
        lambda resamples: compare_stats(make_stats(1), make_stats(2), resamples),
    ],
    ids=["bootstrap_intervals", "compare_stats"],
)
def test_at_least_one_resample_is_required(
    compute: Callable[[int], object], resamples: int
) -> None:
    with pytest.raises(ConfigError, match=f"resamples must be at least 1, not {resamples}"):
        compute(resamples)
