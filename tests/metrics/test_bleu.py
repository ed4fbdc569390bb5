"""BLEU by hand, and what must hold of it."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.bleu import Words, bleu, count_matches, ngrams

TOKENS = st.lists(st.sampled_from("abcde"), max_size=9)
PICTURES = st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=4))


def score(*pictures: tuple[str, list[str]]) -> list[float]:
    return bleu(
        [
            count_matches(candidate.split(), [text.split() for text in references])
            for candidate, references in pictures
        ]
    )


def test_ngrams_of_every_order() -> None:
    assert ngrams(["a", "b", "a", "b"], 2) == {("a",): 2, ("b",): 2, ("a", "b"): 2, ("b", "a"): 1}
    assert ngrams([]) == {}
    assert sum(ngrams(["x"] * 9).values()) == 9 + 8 + 7 + 6


def test_repetition_is_clipped_at_the_reference_that_has_most() -> None:
    # the example of Papineni et al. (2002), section 2.1: "the" counts twice, of seven
    references = ["the cat is on the mat", "there is a cat on the mat"]
    assert score(("the the the the the the the", references))[0] == pytest.approx(2 / 7, abs=1e-8)


def test_geometric_mean() -> None:
    # of 5 words 4 match, of 4 bigrams 2, of 3 trigrams 1, of 2 fourgrams none
    first, second, third, fourth = score(("a b c x d", ["a b c y d"]))
    assert first == pytest.approx(4 / 5, abs=1e-8)
    assert second == pytest.approx(math.sqrt(4 / 5 * 2 / 4), abs=1e-8)
    assert third == pytest.approx((4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3), abs=1e-8)
    assert fourth == pytest.approx(
        (4 / 5 * 2 / 4 * 1 / 3 * 1e-15 / 2) ** (1 / 4), rel=1e-6
    )  # the evaluator's guard


@pytest.mark.parametrize(
    ("candidate", "references", "penalty"),
    [
        ("a b", ["a b c d"], math.exp(1 - 2)),
        ("a b c", ["a b c d", "a b"], 1),  # both one word away: the shorter is the closest
        ("a b c", ["a b c d", "a b c d e f"], math.exp(1 - 4 / 3)),
        ("a b c d e", ["a b c d e f g", "a b c d"], 4 / 5 * 5 / 4),
    ],
)
def test_brevity(candidate: str, references: list[str], penalty: float) -> None:
    assert score((candidate, references))[0] == pytest.approx(penalty, abs=1e-8)


def test_a_corpus_adds_up_counts_not_scores() -> None:
    whole = score(("a b c d", ["a b c d"]), ("x", ["y"]))
    assert whole[0] == pytest.approx(4 / 5, abs=1e-8)
    assert whole[3] == pytest.approx((4 / 5) ** (1 / 4), abs=1e-8)


@given(st.lists(st.sampled_from("abcde"), min_size=4, max_size=9))
def test_a_perfect_caption_scores_one(tokens: list[str]) -> None:
    assert bleu([count_matches(tokens, [tokens])]) == pytest.approx([1] * 4, abs=1e-7)


@given(st.lists(PICTURES, min_size=1, max_size=4))
def test_between_nothing_and_one(pictures: list[tuple[list[str], list[list[str]]]]) -> None:
    assert all(
        0 <= value <= 1 + 1e-5 for value in bleu([count_matches(*picture) for picture in pictures])
    )


@given(PICTURES, TOKENS)
def test_another_reference_never_takes_matches_away(
    picture: tuple[list[str], list[list[str]]], another: list[str]
) -> None:
    candidate, references = picture
    assert (
        count_matches(candidate, [*references, another]).matched
        >= count_matches(candidate, references).matched
    ).all()


@given(PICTURES)
def test_precision_of_words(picture: tuple[list[str], list[list[str]]]) -> None:
    candidate, references = picture
    matches = count_matches(candidate, references)
    assert matches.matched[0] == matched_words(candidate, references)
    if candidate:
        closest = min((abs(len(one) - len(candidate)), len(one)) for one in references)[1]
        expected = float(Fraction(matched_words(candidate, references), len(candidate))) * math.exp(
            min(0, 1 - closest / len(candidate))
        )
        assert bleu([matches])[0] == pytest.approx(expected, abs=1e-7)


def matched_words(candidate: Words, references: list[list[str]]) -> int:
    return sum(
        min(candidate.count(word), max(one.count(word) for one in references))
        for word in set(candidate)
    )


def test_an_empty_caption_scores_nothing() -> None:
    assert score(("", ["a b c"])) == pytest.approx([0] * 4, abs=1e-12)
    assert score(("", [""])) == pytest.approx([0] * 4, abs=1e-12)
