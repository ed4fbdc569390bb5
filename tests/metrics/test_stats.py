"""Corpora of some of the images."""

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.metrics import collect_stats, measure

TEXTS = st.lists(st.sampled_from(["a", "man", "dog's", "red", "2 1/2", "."]), max_size=6).map(
    " ".join
)
CORPORA = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=2, max_size=6
)


@settings(max_examples=30)
@given(CORPORA, st.randoms(use_true_random=False))
def test_some_pictures_are_scored_as_if_there_were_no_others(
    corpus: list[tuple[str, list[str]]], random: Random
) -> None:
    """CIDEr too, whose weights of words come from the references."""
    some = sorted(random.sample(range(len(corpus)), random.randint(1, len(corpus))))
    candidates, references = [text for text, _ in corpus], [texts for _, texts in corpus]
    found = collect_stats(candidates, references).of(some)
    whole, each = measure([candidates[one] for one in some], [references[one] for one in some])
    assert len(found) == len(some)
    for ours, expected in zip([found.whole(), *found.each()], [whole, *each], strict=True):
        assert dataclasses.asdict(ours) == pytest.approx(dataclasses.asdict(expected))
