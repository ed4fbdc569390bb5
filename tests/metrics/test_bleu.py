"""BLEU by hand, and properties that hold for any captions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.bleu import NgramMatches, Tokens, compute_bleu, count_matches, count_ngrams

TOKENS = st.lists(st.sampled_from("abcde"), max_size=9)
IMAGES = st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=4))
TokenizedImage = tuple[list[str], list[list[str]]]


def corpus_bleu(*matches: NgramMatches) -> list[float]:
    bleu: list[float] = compute_bleu(np.sum([image.to_array() for image in matches], 0)).tolist()
    return bleu


def score(*images: tuple[str, list[str]]) -> list[float]:
    return corpus_bleu(
        *(
            count_matches(candidate.split(), [text.split() for text in references])
            for candidate, references in images
        )
    )


def test_ngrams_of_every_order_are_counted() -> None:
    expected = {("a",): 2, ("b",): 2, ("a", "b"): 2, ("b", "a"): 1}
    assert count_ngrams(["a", "b", "a", "b"], 2) == expected
    assert count_ngrams([]) == {}
    assert sum(count_ngrams(["x"] * 9).values()) == 9 + 8 + 7 + 6


def test_repetition_is_clipped_at_the_reference_with_most() -> None:
    # The example of Papineni et al. (2002), section 2.1: "the" counts twice, of seven.
    references = ["the cat is on the mat", "there is a cat on the mat"]
    assert score(("the the the the the the the", references))[0] == pytest.approx(2 / 7, abs=1e-8)


def test_score_is_a_geometric_mean_of_precisions() -> None:
    # Of 5 words 4 match, of 4 bigrams 2, of 3 trigrams 1, of 2 4-grams none.
    first, second, third, fourth = score(("a b c x d", ["a b c y d"]))
    assert first == pytest.approx(4 / 5, abs=1e-8)
    assert second == pytest.approx(math.sqrt(4 / 5 * 2 / 4), abs=1e-8)
    assert third == pytest.approx((4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3), abs=1e-8)
    # 1e-15 is the evaluator's guard against division by zero
    assert fourth == pytest.approx((4 / 5 * 2 / 4 * 1 / 3 * 1e-15 / 2) ** (1 / 4), rel=1e-6)


@pytest.mark.parametrize(
    ("candidate", "references", "expected"),
    [
        ("a b", ["a b c d"], math.exp(1 - 2)),
        ("a b c", ["a b c d", "a b"], 1),  # both differ by one word: the shorter counts
        ("a b c", ["a b c d", "a b c d e f"], math.exp(1 - 4 / 3)),
        ("a b c d e", ["a b c d e f g", "a b c d"], 4 / 5 * 5 / 4),
    ],
)
def test_short_candidates_are_penalized(
    candidate: str, references: list[str], expected: float
) -> None:
    assert score((candidate, references))[0] == pytest.approx(expected, abs=1e-8)


def test_corpus_score_sums_counts_and_not_scores() -> None:
    bleu = score(("a b c d", ["a b c d"]), ("x", ["y"]))
    assert bleu[0] == pytest.approx(4 / 5, abs=1e-8)
    assert bleu[3] == pytest.approx((4 / 5) ** (1 / 4), abs=1e-8)


@given(st.lists(st.sampled_from("abcde"), min_size=4, max_size=9))
def test_perfect_caption_scores_one(tokens: list[str]) -> None:
    assert corpus_bleu(count_matches(tokens, [tokens])) == pytest.approx([1] * 4, abs=1e-7)


@given(st.lists(IMAGES, min_size=1, max_size=4))
def test_scores_are_between_zero_and_one(images: list[TokenizedImage]) -> None:
    scores = corpus_bleu(*(count_matches(*image) for image in images))
    assert all(0 <= value <= 1 + 1e-5 for value in scores)


@given(IMAGES, TOKENS)
def test_another_reference_never_removes_matches(image: TokenizedImage, another: list[str]) -> None:
    candidate, references = image
    before = count_matches(candidate, references).matched
    after = count_matches(candidate, [*references, another]).matched
    assert (after >= before).all()


@given(IMAGES)
def test_bleu1_is_the_clipped_precision_of_words(image: TokenizedImage) -> None:
    candidate, references = image
    matches, matched = count_matches(*image), count_matching_words(*image)
    assert matches.matched[0] == matched
    if candidate:
        length = len(candidate)
        lengths = [(abs(len(reference) - length), len(reference)) for reference in references]
        penalty = math.exp(min(0, 1 - min(lengths)[1] / length))
        expected = float(Fraction(matched, length)) * penalty
        assert corpus_bleu(matches)[0] == pytest.approx(expected, abs=1e-7)


def count_matching_words(candidate: Tokens, references: list[list[str]]) -> int:
    return sum(
        min(candidate.count(word), max(reference.count(word) for reference in references))
        for word in set(candidate)
    )


def test_empty_caption_scores_zero() -> None:
    assert score(("", ["a b c"])) == pytest.approx([0] * 4, abs=1e-12)
    assert score(("", [""])) == pytest.approx([0] * 4, abs=1e-12)
