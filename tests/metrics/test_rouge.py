"""ROUGE-L by hand, and what must hold of it."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.rouge import longest_common_subsequence, rouge_l

TOKENS = st.lists(st.sampled_from("abc"), max_size=7)


def score(candidate: str, *references: str) -> float:
    return rouge_l(candidate.split(), [text.split() for text in references])


@given(TOKENS, TOKENS)
def test_longest_common_subsequence(one: list[str], other: list[str]) -> None:
    subsequences = {
        chosen for size in range(len(other) + 1) for chosen in combinations(other, size)
    }
    longest = max(
        size
        for size in range(len(one) + 1)
        if any(chosen in subsequences for chosen in combinations(one, size))
    )
    assert (
        longest_common_subsequence(one, other) == longest_common_subsequence(other, one) == longest
    )


def test_by_hand() -> None:
    # a c are common: precision 2/4, recall 2/3; (1 + 1.44) * 1/3 / (2/3 + 1.44 * 1/2)
    assert score("a b c d", "a c e") == pytest.approx(2.44 / 3 / (2 / 3 + 0.72))


def test_best_precision_and_best_recall_may_be_of_different_references() -> None:
    # precision 2/2 by the long one, recall 1/1 by the short one
    assert score("a b", "a b c d", "a") == pytest.approx(1)
    assert score("a b", "a b c d") < 1
    assert score("a b", "a") < 1


def test_recall_weighs_more() -> None:
    assert score("a b c d", "a b") > score("a b", "a b c d")


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.lists(TOKENS))
def test_a_perfect_caption_scores_one(tokens: list[str], others: list[list[str]]) -> None:
    assert rouge_l(tokens, [*others, tokens]) == pytest.approx(1)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=3), TOKENS)
def test_between_nothing_and_one_and_no_worse_for_another_reference(
    one: list[str], references: list[list[str]], another: list[str]
) -> None:
    alone = rouge_l(one, references)
    assert 0 <= alone <= 1 + 1e-12
    assert rouge_l(one, [*references, another]) >= alone - 1e-12
    assert rouge_l(one, references[::-1]) == alone


def test_empty_texts() -> None:
    assert score("", "a b") == 0
    assert score("a b", "") == 0
    assert score("", "") == 1  # so the evaluator has it: the one empty token is found
