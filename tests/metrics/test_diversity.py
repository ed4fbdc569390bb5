"""Diversity of captions by hand, and properties that hold for any captions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics import Diversity, compute_diversity

CAPTIONS = st.lists(st.lists(st.sampled_from("abcd"), max_size=5), max_size=6)


def test_values_by_hand() -> None:
    captions = [caption.split() for caption in ("a dog runs", "a dog runs", "a cat")]
    diversity = compute_diversity(captions, [["a", "cat"], ["a", "man"]])
    # 8 words, 4 of them distinct: a dog runs cat; bigrams: a dog, dog runs, a cat
    assert diversity == Diversity(4 / 8, 3 / 8, 8 / 3, 4, 2 / 3, 2 / 3)
    assert "novel" not in compute_diversity([["a"]]).to_dict()


@given(CAPTIONS, st.none() | CAPTIONS)
def test_fractions_are_between_zero_and_one(
    captions: list[list[str]], train_captions: list[list[str]] | None
) -> None:
    diversity = compute_diversity(captions, train_captions)
    for name, value in diversity.to_dict().items():
        assert name in ("mean_length", "vocabulary") or 0 <= value <= 1
    assert diversity.vocabulary == len({word for caption in captions for word in caption})


@given(CAPTIONS.filter(lambda captions: any(captions)), st.integers(2, 3))
def test_repeated_captions_are_less_varied(captions: list[list[str]], times: int) -> None:
    once, repeated = compute_diversity(captions), compute_diversity(captions * times)
    for name in ("distinct1", "distinct2", "unique"):
        assert getattr(repeated, name) == pytest.approx(getattr(once, name) / times)
    assert repeated.mean_length == pytest.approx(once.mean_length)
    assert repeated.vocabulary == once.vocabulary


@given(CAPTIONS.filter(bool))
def test_training_captions_are_not_novel(captions: list[list[str]]) -> None:
    assert compute_diversity(captions, captions).novel == 0
    assert compute_diversity(captions, []).novel == 1
