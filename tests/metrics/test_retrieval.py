"""Recall of retrieval."""

from itertools import permutations

import numpy as np
import pytest

from cutline.metrics.retrieval import CUTOFFS, compute_recall, count_found, find_relevant


def reference_recall(
    scores: np.ndarray, image_of_text: list[int]
) -> tuple[list[float], list[float]]:
    """Return recall as BLIP's `itm_eval` does, for scores without ties."""
    rows = []
    for image, row in enumerate(scores):
        order = np.argsort(row)[::-1].tolist()
        own = [text for text, owner in enumerate(image_of_text) if owner == image]
        rows.append(min(order.index(text) for text in own))
    columns = [
        np.argsort(column)[::-1].tolist().index(image_of_text[text])
        for text, column in enumerate(scores.T)
    ]
    first, second = (
        [float(np.mean(np.array(ranks) < cutoff)) for cutoff in CUTOFFS]
        for ranks in (rows, columns)
    )
    return first, second


@pytest.mark.parametrize("seed", range(5))
def test_recall_is_that_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image_of_text = rng.permutation(np.repeat(np.arange(30), 2)).tolist()
    scores = rng.normal(size=(30, 60))
    scores[image_of_text, np.arange(60)] += 1.5
    result = compute_recall(scores, image_of_text)
    first, second = reference_recall(scores, image_of_text)
    assert list(vars(result.image_to_text).values()) == pytest.approx(first)
    assert list(vars(result.text_to_image).values()) == pytest.approx(second)
    assert result.mean == pytest.approx(np.mean([first, second]))
    assert 0 < result.image_to_text.at1 < result.image_to_text.at5 < 1


def test_scores_of_texts_to_images_may_differ() -> None:
    scores = np.eye(12)
    result = compute_recall(scores, range(12), text_to_image_scores=-scores)
    assert result.image_to_text.at1 == 1
    assert result.text_to_image.at1 == 0


def test_an_equal_text_counts_as_found() -> None:
    """Image 0 prefers text 1, which says the same as its own text 0, and is that of image 1."""
    scores = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5], [0.0, 0.0, 1.0]])
    by_index = compute_recall(scores, [0, 1, 2])
    by_text = compute_recall(scores, [0, 1, 2], ["a dog", "a dog", "a cat"])
    assert by_index.image_to_text.at1 == by_index.text_to_image.at1 == pytest.approx(1 / 3)
    assert by_text.image_to_text.at1 == by_text.text_to_image.at1 == 1
    assert find_relevant(3, [0, 1, 2], ["a", "a", "b"]).tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
    ]


def test_images_without_texts_have_no_query() -> None:
    result = compute_recall(np.array([[0.0], [1.0], [0.5]]), [1])
    assert result.image_to_text.at1 == result.text_to_image.at1 == 1


def test_ties_are_broken_at_random() -> None:
    """Equal scores find a text no more often than chance does."""
    scores = np.zeros((40, 40))
    result = compute_recall(scores, range(40))
    for cutoff, recall in zip(CUTOFFS, vars(result.image_to_text).values(), strict=True):
        assert recall == pytest.approx(cutoff / 40)


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
