"""How varied captions are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics import Diversity, measure_diversity

CAPTIONS = st.lists(st.lists(st.sampled_from("abcd"), max_size=5), max_size=6)


def test_by_hand() -> None:
    captions = ["a dog runs", "a dog runs", "a cat"]
    found = measure_diversity(
        [caption.split() for caption in captions], [["a", "cat"], ["a", "man"]]
    )
    # 8 words, 4 of them distinct: a dog runs cat; pairs: a dog, dog runs, a cat
    assert found == Diversity(4 / 8, 3 / 8, 8 / 3, 4, 2 / 3, 2 / 3)
    assert "novel" not in measure_diversity([["a"]]).numbers()


@given(CAPTIONS, st.none() | CAPTIONS)
def test_shares_are_shares(captions: list[list[str]], learned: list[list[str]] | None) -> None:
    found = measure_diversity(captions, learned)
    assert all(
        0 <= value <= 1
        for name, value in found.numbers().items()
        if name not in ("mean_length", "vocabulary")
    )
    assert found.vocabulary == len({word for caption in captions for word in caption})


@given(CAPTIONS.filter(lambda captions: any(captions)), st.integers(2, 3))
def test_saying_the_same_again_is_less_varied(captions: list[list[str]], times: int) -> None:
    once, again = measure_diversity(captions), measure_diversity(captions * times)
    for name in ("distinct1", "distinct2", "unique"):
        assert getattr(again, name) == pytest.approx(getattr(once, name) / times)
    assert (again.mean_length, again.vocabulary) == (
        pytest.approx(once.mean_length),
        once.vocabulary,
    )


@given(CAPTIONS.filter(bool))
def test_what_was_learned_is_not_novel(captions: list[list[str]]) -> None:
    assert measure_diversity(captions, captions).novel == 0
    assert measure_diversity(captions, []).novel == 1
