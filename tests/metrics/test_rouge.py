"""ROUGE-L by hand, and properties that hold for any captions."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.rouge import compute_lcs_length, compute_rouge_l

TOKENS = st.lists(st.sampled_from("abc"), max_size=7)


def score(candidate: str, *references: str) -> float:
    return compute_rouge_l(candidate.split(), [text.split() for text in references])


def list_subsequences(tokens: list[str]) -> set[tuple[str, ...]]:
    return {chosen for size in range(len(tokens) + 1) for chosen in combinations(tokens, size)}


@given(TOKENS, TOKENS)
def test_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    longest = max(map(len, list_subsequences(a) & list_subsequences(b)))
    assert compute_lcs_length(a, b) == compute_lcs_length(b, a) == longest


def test_score_by_hand() -> None:
    # a c are common: precision 2/4, recall 2/3; (1 + 1.44) * 1/3 / (2/3 + 1.44 * 1/2)
    assert score("a b c d", "a c e") == pytest.approx(2.44 / 3 / (2 / 3 + 0.72))


def test_best_precision_and_best_recall_may_come_from_different_references() -> None:
    # precision 2/2 by the long one, recall 1/1 by the short one
    assert score("a b", "a b c d", "a") == pytest.approx(1)
    assert score("a b", "a b c d") < 1
    assert score("a b", "a") < 1


def test_recall_has_a_larger_weight() -> None:
    assert score("a b c d", "a b") > score("a b", "a b c d")


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.lists(TOKENS))
def test_perfect_caption_scores_one(tokens: list[str], others: list[list[str]]) -> None:
    assert compute_rouge_l(tokens, [*others, tokens]) == pytest.approx(1)


@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=3), TOKENS)
def test_scores_are_between_zero_and_one_and_never_fall_with_another_reference(
    candidate: list[str], references: list[list[str]], another: list[str]
) -> None:
    before = compute_rouge_l(candidate, references)
    assert 0 <= before <= 1 + 1e-12
    assert compute_rouge_l(candidate, [*references, another]) >= before - 1e-12
    assert compute_rouge_l(candidate, references[::-1]) == before


def test_empty_texts() -> None:
    assert score("", "a b") == 0
    assert score("a b", "") == 0
    assert score("", "") == 1  # as in the evaluator, where both consist of one empty token
