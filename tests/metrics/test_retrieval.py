"""Recall of retrieval."""

from itertools import permutations

import numpy as np
import pytest

from cutline.metrics.retrieval import CUTOFFS, RetrievalScores, average_recall, count_found


def reference_recall(scores: np.ndarray, relevant: np.ndarray) -> list[float]:
    """Return recall as BLIP's `itm_eval` does, for scores without ties."""
    ranks = [
        min(np.argsort(row)[::-1].tolist().index(answer) for answer in np.flatnonzero(right))
        for row, right in zip(scores, relevant, strict=True)
    ]
    return [float(np.mean(np.array(ranks) < cutoff)) for cutoff in CUTOFFS]


@pytest.mark.parametrize("seed", range(5))
def test_recall_is_that_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(30), 2))
    relevant = owners == np.arange(30)[:, None]
    scores = rng.normal(size=(30, 60)) + 1.5 * relevant
    recalls = [
        average_recall(count_found(first, second))
        for first, second in ((scores, relevant), (scores.T, relevant.T))
    ]
    for recall, args in zip(recalls, ((scores, relevant), (scores.T, relevant.T)), strict=True):
        assert list(vars(recall).values()) == pytest.approx(reference_recall(*args))
    assert 0 < recalls[0].at1 < recalls[0].at5 < 1
    assert RetrievalScores(*recalls).mean == pytest.approx(
        np.mean([list(vars(recall).values()) for recall in recalls])
    )


def test_ties_are_broken_at_random() -> None:
    """Equal scores find a text no more often than chance does."""
    recall = average_recall(count_found(np.zeros((40, 40)), np.eye(40, dtype=bool)))
    for cutoff, value in zip(CUTOFFS, vars(recall).values(), strict=True):
        assert value == pytest.approx(cutoff / 40)


def test_probability_of_finding_a_tied_answer() -> None:
    """The average over all orders of the tied candidates."""
    scores = np.array([5.0, *[1.0] * 6, 0.0])
    relevant = np.array([False, True, False, False, True, False, False, True])
    (found,) = count_found(scores[None], relevant[None])
    orders = list(permutations(range(1, 7)))
    expected = [
        np.mean([relevant[[0, *order, 7][:cutoff]].any() for order in orders]) for cutoff in CUTOFFS
    ]
    assert found == pytest.approx(expected)


def test_queries_without_an_answer_find_nothing() -> None:
    scores = np.full((2, 3), -np.inf)
    assert count_found(scores, np.zeros((2, 3), bool)).tolist() == [[0, 0, 0]] * 2


def test_no_queries_have_no_recall() -> None:
    assert average_recall(count_found(np.zeros((0, 3)), np.zeros((0, 3), bool))).mean == 0


def test_a_wrong_answer_that_is_not_a_number_is_behind_all_others() -> None:
    scores = np.array([[np.nan, 0.0], [0.0, np.nan]])
    relevant = np.array([[False, True], [False, True]])
    assert count_found(scores, relevant)[:, 0].tolist() == [1, 0]
