"""Words that captions use more or less often than references."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics import WordUsage, compute_word_usage
from cutline.metrics.word_usage import MIN_IMAGES, MIN_Z

Texts = list[list[str]]
WORDS = [f"word{number}" for number in range(60)]


def draw_texts(random: Random, num_texts: int) -> Texts:
    """Return texts of words of which a few are frequent and most are rare."""
    weights = [1 / (number + 2) for number in range(len(WORDS))]
    return [random.choices(WORDS, weights, k=8) for _ in range(num_texts)]


def draw_corpus(seed: int, num_images: int) -> tuple[Texts, list[Texts]]:
    """Return captions that are drawn as their references are."""
    random = Random(seed)
    references = [draw_texts(random, random.randint(1, 5)) for _ in range(num_images)]
    return draw_texts(random, num_images), references


def test_usage_by_hand() -> None:
    # `dog` is in every caption, and in one of two references of half of 20 images. In these, it is
    # in 2 of 3 texts; in the others, in 1 of 3. Both have the variance 1/3 * 2/3.
    references = [[["a", "dog"], ["a"]], [["a"], ["a"]]] * 10
    usages = compute_word_usage([["a", "dog"]] * 20, references)
    z = (10 * (1 - 2 / 3) + 10 * (1 - 1 / 3) - 1 / 2) / math.sqrt(20 * 2 / 9)
    assert usages.overused == (WordUsage("dog", 1.0, 0.25, pytest.approx(z)),)
    assert usages.underused == ()
    # The other way round, captions leave it out.
    references = [[["a", "dog"], ["a", "dog"]], [["a", "dog"], ["a"]]] * 10
    usages = compute_word_usage([["a"]] * 20, references)
    assert usages.underused == (WordUsage("dog", 0.0, 0.75, pytest.approx(-z)),)
    assert usages.overused == ()
    assert json.loads(json.dumps(usages.to_dict()))["underused"][0]["references"] == 0.75


@given(st.integers(0, 1000), st.integers(1, 5))
def test_captions_equal_to_the_references_use_no_word_more(seed: int, num_references: int) -> None:
    captions, _ = draw_corpus(seed, 30)
    usages = compute_word_usage(captions, [[text] * num_references for text in captions])
    assert usages.overused == usages.underused == ()


@given(st.integers(0, 1000))
def test_word_added_to_all_captions_is_the_most_overused(seed: int) -> None:
    captions, references = draw_corpus(seed, 40)
    usages = compute_word_usage([["new", *text] for text in captions], references)
    assert (usages.overused[0].word, usages.overused[0].captions) == ("new", 1)
    assert usages.overused[0].references == 0
    added = [[["new", *text] for text in texts] for texts in references]
    usages = compute_word_usage(captions, added)
    assert (usages.underused[0].word, usages.underused[0].references) == ("new", 1)


@given(st.integers(0, 1000))
def test_frequent_bias_is_sorted_and_significant(seed: int) -> None:
    captions, references = draw_corpus(seed, 60)
    captions = [text[:4] + WORDS[-4:-2] for text in captions]
    usages = compute_word_usage(captions, references, max_words=2)
    for sign, words in ((1, usages.overused), (-1, usages.underused)):
        assert len(words) <= 2
        assert [sign * usage.z for usage in words] == sorted(
            (sign * usage.z for usage in words), reverse=True
        )
        assert all(sign * usage.z >= MIN_Z for usage in words)
        assert all(sign * (usage.captions - usage.references) > 0 for usage in words)
    assert {usage.word for usage in usages.overused} == set(WORDS[-4:-2])


def test_order_and_repetition_within_a_caption_do_not_matter() -> None:
    captions, references = draw_corpus(1, 50)
    captions = [["new", *text] for text in captions]
    expected = compute_word_usage(captions, references)
    assert compute_word_usage([text[::-1] * 2 for text in captions], references) == expected


def test_word_of_few_images_is_not_tested() -> None:
    captions = [["rare"] * (number < MIN_IMAGES - 1) for number in range(100)]
    references = [[["a"]] * 5] * 100
    assert compute_word_usage(captions, references).overused == ()
    captions[-1] = ["rare"]
    assert compute_word_usage(captions, references).overused[0].word == "rare"


def test_captions_drawn_as_references_are_rarely_significant() -> None:
    """Of 60 words in 100 corpora, 0.27 % exceed 3 standard errors by chance."""
    counts = []
    for seed in range(100):
        usages = compute_word_usage(*draw_corpus(seed, 100))
        counts.append(len(usages.overused) + len(usages.underused))
    assert 0 < sum(counts) <= 60 * 100 * 0.0027 * 2
