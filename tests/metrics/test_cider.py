"""CIDEr by hand, and properties that hold for any captions."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.cider import compute_cider, compute_similarities

TOKENS = st.lists(st.sampled_from("abcdef"), max_size=7)
CORPORA = st.lists(
    st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=3)), min_size=1, max_size=5
)
TokenizedCorpus = list[tuple[list[str], list[list[str]]]]
OTHER = ("p", ["p q r s"])  # a second image, without a word in common with the first


def score(*images: tuple[str, list[str]]) -> list[float]:
    return score_tokens(
        [(candidate.split(), [text.split() for text in texts]) for candidate, texts in images]
    )


def score_tokens(corpus: TokenizedCorpus) -> list[float]:
    return compute_cider(compare(corpus))


def compare(corpus: TokenizedCorpus) -> list[list[float]]:
    return compute_similarities(
        [candidate for candidate, _ in corpus], [references for _, references in corpus]
    )


@pytest.mark.parametrize(
    ("candidate", "references", "expected"),
    [
        ("a b c d", ["a b c d"], 10),
        ("a b", ["a b"], 5),  # of four orders two are empty
        ("a c", ["a b"], 10 / 4 / 2),  # cosine of words 1/2, of bigrams 0
        # one bigram fewer: Gaussian of 1, sigma 6
        ("a", ["a b"], 10 / 4 / math.sqrt(2) * math.exp(-1 / 72)),
        ("a a", ["a b"], 10 / 4 / (2 * math.sqrt(2))),  # clipped at one a: 1 * 1 / (2 * sqrt 2)
        ("a b c d", ["a b c d", "x y z w"], 5),  # mean over references
        ("x y", ["a b"], 0),
        ("", ["a b"], 0),
        ("a", [""], 0),
    ],
)
def test_scores_by_hand(candidate: str, references: list[str], expected: float) -> None:
    assert score((candidate, references), OTHER)[0] == pytest.approx(expected)


def test_word_of_every_image_has_no_weight() -> None:
    assert score(("a", ["a b"]), ("a", ["a c"])) == pytest.approx([0, 0])


def test_document_frequency_counts_images_and_not_references() -> None:
    # `a` is in three references of one image; if it counted three times, its weight were negative
    assert score(("a", ["a", "a", "a"]), OTHER)[0] == pytest.approx(10 / 4)


def test_rare_words_have_a_larger_weight() -> None:
    # `a` is in two images of three, `b` in one: weights log 3/2 and log 3
    common, rare = math.log(3 / 2), math.log(3)
    others = [("", ["a z"]), OTHER]
    scale = 10 / 4 / math.hypot(common, rare) * math.exp(-1 / 72)
    assert score(("a", ["a b"]), *others)[0] == pytest.approx(scale * common)
    assert score(("b", ["a b"]), *others)[0] == pytest.approx(scale * rare)


def test_single_image_scores_zero() -> None:
    assert score(("a b c d", ["a b c d"])) == [0]


@given(CORPORA)
def test_scores_are_between_zero_and_ten(corpus: TokenizedCorpus) -> None:
    scores = score_tokens(corpus)
    assert len(scores) == len(corpus)
    assert all(-1e-9 <= value <= 10 + 1e-9 for value in scores)


@given(CORPORA, st.randoms(use_true_random=False))
def test_order_does_not_matter(corpus: TokenizedCorpus, random: Random) -> None:
    order = list(range(len(corpus)))
    random.shuffle(order)
    scores = score_tokens(corpus)
    shuffled = score_tokens([(corpus[index][0], corpus[index][1][::-1]) for index in order])
    assert shuffled == pytest.approx([scores[index] for index in order])


@given(CORPORA)
def test_similarity_to_a_reference_does_not_depend_on_the_image_s_others(
    corpus: TokenizedCorpus,
) -> None:
    """The document frequencies do: they come from all references."""
    candidate, references = corpus[0]
    similarities = compare(corpus)
    assert [len(values) for values in similarities] == [len(texts) for _, texts in corpus]
    assert all(-1e-9 <= value <= 1 + 1e-9 for values in similarities for value in values)
    # The references come once more, as an image each: one at a time with the candidate.
    pairs: TokenizedCorpus = [(candidate, [reference]) for reference in references]
    repeated = compare([*corpus, (candidate, references), *pairs])
    assert [value for (value,) in repeated[len(corpus) + 1 :]] == repeated[0]
