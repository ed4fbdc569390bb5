"""CIDEr by hand, and what must hold of it."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.cider import cider

TOKENS = st.lists(st.sampled_from("abcdef"), max_size=7)
PICTURES = st.lists(
    st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=3)), min_size=1, max_size=5
)


def score(*pictures: tuple[str, list[str]]) -> list[float]:
    return cider(
        [candidate.split() for candidate, _ in pictures],
        [[text.split() for text in texts] for _, texts in pictures],
    )


OTHER = ("p", ["p q r s"])  # a second image, that has no word in common with the first


@pytest.mark.parametrize(
    ("candidate", "references", "expected"),
    [
        ("a b c d", ["a b c d"], 10),
        ("a b", ["a b"], 5),  # of four orders two are empty
        ("a c", ["a b"], 10 / 4 / 2),  # cosine 1/2 of the words, nothing of the pairs
        (
            "a",
            ["a b"],
            10 / 4 / math.sqrt(2) * math.exp(-1 / 72),
        ),  # one pair fewer: Gaussian of 1, sigma 6
        ("a a", ["a b"], 10 / 4 / (2 * math.sqrt(2))),  # clipped at one a: 1 * 1 / (2 * sqrt 2)
        ("a b c d", ["a b c d", "x y z w"], 5),  # mean over references
        ("x y", ["a b"], 0),
        ("", ["a b"], 0),
        ("a", [""], 0),
    ],
)
def test_by_hand(candidate: str, references: list[str], expected: float) -> None:
    assert score((candidate, references), OTHER)[0] == pytest.approx(expected)


def test_a_word_of_every_picture_weighs_nothing() -> None:
    assert score(("a", ["a b"]), ("a", ["a c"])) == pytest.approx([0, 0])


def test_frequency_counts_pictures_not_references() -> None:
    # `a` is in three references, but in one of two images; were it counted thrice, its weight would be negative
    assert score(("a", ["a", "a", "a"]), OTHER)[0] == pytest.approx(10 / 4)


def test_rare_words_weigh_more() -> None:
    # `a` in two images of three, `b` in one: weights log 3/2 and log 3
    common, rare = math.log(3 / 2), math.log(3)
    others = [("", ["a z"]), OTHER]
    norm = math.hypot(common, rare)
    assert score(("a", ["a b"]), *others)[0] == pytest.approx(
        10 / 4 * common / norm * math.exp(-1 / 72)
    )
    assert score(("b", ["a b"]), *others)[0] == pytest.approx(
        10 / 4 * rare / norm * math.exp(-1 / 72)
    )


def test_one_picture_alone_says_nothing() -> None:
    assert score(("a b c d", ["a b c d"])) == [0]


@given(PICTURES)
def test_between_nothing_and_ten(pictures: list[tuple[list[str], list[list[str]]]]) -> None:
    scores = cider([one for one, _ in pictures], [texts for _, texts in pictures])
    assert len(scores) == len(pictures)
    assert all(-1e-9 <= value <= 10 + 1e-9 for value in scores)


@given(PICTURES, st.randoms(use_true_random=False))
def test_order_does_not_matter(
    pictures: list[tuple[list[str], list[list[str]]]], random: Random
) -> None:
    order = list(range(len(pictures)))
    random.shuffle(order)
    scores = cider([one for one, _ in pictures], [texts for _, texts in pictures])
    shuffled = cider(
        [pictures[index][0] for index in order], [pictures[index][1][::-1] for index in order]
    )
    assert shuffled == pytest.approx([scores[index] for index in order])
