"""Intervals and p-values."""

import dataclasses
from random import Random

import numpy as np
import pytest

from cutline.errors import ConfigError
from cutline.metrics import CorpusStats, bootstrap, collect_stats, compare_stats, measure
from cutline.metrics.significance import _draws, _score_drawn, _swaps

WORDS = ["a", "man", "dog", "red", "runs", "on", "the", "beach", "with", "two"]


def corpus(seed: int, truth: float = 0.5, pictures: int = 60) -> CorpusStats:
    """Made-up captions that repeat the reference's word with probability `truth`; the references depend on nothing."""
    random, other = Random(0), Random(seed)
    references = [[" ".join(random.choices(WORDS, k=8)) for _ in range(2)] for _ in range(pictures)]
    said = [
        " ".join(
            word if other.random() < truth else other.choice(WORDS) for word in texts[0].split()
        )
        for texts in references
    ]
    return collect_stats(said, references)


def test_a_resample_is_scored_as_a_corpus() -> None:
    """BLEU and ROUGE-L of drawn images are those of `measure` for the same images; CIDEr is the mean of theirs in the whole."""
    found = corpus(1)
    drawn = next(_draws(np.random.default_rng(3), len(found), 4))
    assert (drawn.sum(1) == len(found)).all()
    scores = _score_drawn(found, drawn)
    for row, counts in enumerate(drawn.astype(int)):
        chosen = [place for place, count in enumerate(counts) for _ in range(count)]
        texts = [" ".join(found.candidates[place]) for place in chosen]
        expected, _ = measure(
            texts, [[" ".join(one) for one in found.references[place]] for place in chosen]
        )
        for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"):
            assert scores[name][row] == pytest.approx(getattr(expected, name))
        assert scores["cider"][row] == pytest.approx(
            np.mean([found.each()[place].cider for place in chosen])
        )


def test_every_picture_is_drawn_and_swapped_alike() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate(list(_draws(rng, 11, 3000)))
    assert drawn.shape == (3000, 11)
    assert drawn.mean(0) == pytest.approx(np.ones(11), abs=0.08)
    assert drawn.var(0) == pytest.approx(np.full(11, 10 / 11), abs=0.12)  # of a multinomial
    swapped = np.concatenate(list(_swaps(rng, 11, 3000)))
    assert set(np.unique(swapped)) == {0, 1}
    assert swapped.mean(0) == pytest.approx(np.full(11, 0.5), abs=0.05)


def test_intervals_hold_the_score_and_narrow_with_pictures() -> None:
    few, many = corpus(1, pictures=40), corpus(1, pictures=400)
    for found in (few, many):
        for name, (low, high) in bootstrap(found, 300).items():
            assert low < getattr(found.whole(), name) < high
    (low, high), (lower, higher) = bootstrap(few)["bleu1"], bootstrap(many)["bleu1"]
    assert (high - low) / (higher - lower) == pytest.approx(10**0.5, rel=0.4)


def test_the_mean_s_interval_is_the_normal_one() -> None:
    found = corpus(1, pictures=300)
    ciders = [one.cider for one in found.each()]
    half = 1.96 * np.std(ciders) / 300**0.5
    assert bootstrap(found, 2000)["cider"] == pytest.approx(
        (np.mean(ciders) - half, np.mean(ciders) + half), abs=0.1 * half
    )


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second = corpus(1), corpus(2)
    assert (
        bootstrap(first, 50, seed=4) == bootstrap(first, 50, seed=4) != bootstrap(first, 50, seed=5)
    )
    assert (
        compare_stats(first, second, 50, seed=4)
        == compare_stats(first, second, 50, seed=4)
        != compare_stats(first, second, 50)
    )


def test_a_difference_there_is_is_told() -> None:
    found = compare_stats(corpus(1, 0.3), corpus(2, 0.8), 500)
    for one in found.values():
        assert one.value > 0
        assert one.interval[0] > 0
        assert one.p_value == pytest.approx(1 / 501)


def test_nothing_differs_from_itself() -> None:
    for one in compare_stats(corpus(1), corpus(1), 100).values():
        assert (one.value, one.interval, one.p_value) == (0, (0, 0), 1)


def test_two_of_the_same_make_are_rarely_told_apart() -> None:
    """Under the null hypothesis p is below 0.2 in a fifth of the cases."""
    values = [
        compare_stats(corpus(2 * seed, pictures=15), corpus(2 * seed + 1, pictures=15), 100)[
            "bleu2"
        ].p_value
        for seed in range(40)
    ]
    assert 1 <= sum(value < 0.2 for value in values) <= 18
    assert sum(value < 0.02 for value in values) <= 4


def test_the_other_way_round_is_the_other_sign() -> None:
    there, back = compare_stats(corpus(1), corpus(2), 400), compare_stats(corpus(2), corpus(1), 400)
    for name, one in there.items():
        assert back[name].value == -one.value
        assert back[name].interval == pytest.approx((-one.interval[1], -one.interval[0]))
        assert back[name].p_value == pytest.approx(one.p_value)
    assert dataclasses.astuple(there["cider"])[:2] == dataclasses.astuple(back["cider"])[1::-1]


def test_large_sets_are_drawn_in_small_parts() -> None:
    rng = np.random.default_rng(0)
    for pictures, most in ((11, 250), (100_000, 41), (5_000_000, 1)):
        for draw in (_draws, _swaps):
            assert len(next(draw(rng, pictures, 300))) == most
    assert [len(part) for part in _draws(rng, 11, 600)] == [250, 250, 100]


@pytest.mark.parametrize("resamples", [0, -1])
def test_there_is_at_least_one_resample(resamples: int) -> None:
    for draw in (
        lambda: bootstrap(corpus(1), resamples),
        lambda: compare_stats(corpus(1), corpus(2), resamples),
    ):
        with pytest.raises(ConfigError, match=f"resamples {resamples} is below 1"):
            draw()
