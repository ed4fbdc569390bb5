"""Ranking captions by consensus."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from toy_model import Case, beam_search, cases

from cutline.config import GenerationConfig
from cutline.errors import ConfigError
from cutline.generation import Hypothesis
from cutline.generation.consensus import rank_by_consensus


def make_hypothesis(*token_ids: int, prob: float, finished: bool = True) -> Hypothesis:
    count = len(token_ids) + finished
    return Hypothesis(token_ids, 0.0, token_log_probs=(math.log(prob) / count,) * count)


def test_a_caption_like_the_others_beats_a_likelier_one_unlike_them() -> None:
    apart = make_hypothesis(9, 8, 7, 6, prob=0.3)
    first, second = make_hypothesis(1, 2, 3, 4, prob=0.22), make_hypothesis(1, 2, 3, 5, prob=0.25)
    ranked = rank_by_consensus([apart, first, second])
    assert [each.token_ids for each in ranked] == [second.token_ids, first.token_ids, (9, 8, 7, 6)]
    assert [each.candidate for each in ranked] == [0, 1, 2]
    # With nearly all of the probability, it is the consensus.
    certain = replace(apart, token_log_probs=(0.0,) * 5)
    assert rank_by_consensus([first, second, certain])[0].token_ids == (9, 8, 7, 6)


def test_the_similarity_is_worked_by_hand() -> None:
    """The gain of a caption is its own weight, plus that of the other times their similarity.

    Of the tokens a b end and a c end, 2 of 3 unigrams are shared, no bigrams and no trigrams; there
    are no 4-grams: similarity (2/3) / 4. Without its end token, a b has 1 / sqrt(6) for unigrams,
    and a length that differs by 1. A caption of three tokens is similar to itself by 3/4.
    """
    first, other = make_hypothesis(1, 2, prob=0.5), make_hypothesis(1, 3, prob=0.25)
    cut = make_hypothesis(1, 2, prob=0.25, finished=False)
    # relative weights 1, 1/2, 1/2
    to_cut = (2 / math.sqrt(6) + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    cut_to_other = 1 / math.sqrt(6) / 4 * math.exp(-1 / 72)
    gains = {
        (1, 2, "end"): 3 / 4 + 1 / 12 + to_cut / 2,
        (1, 3, "end"): 3 / 8 + 1 / 6 + cut_to_other / 2,
        (1, 2): 1 / 4 + to_cut + cut_to_other / 2,
    }
    ranked = rank_by_consensus([other, cut, first])
    names = [(*each.token_ids, "end")[: len(each.token_log_probs)] for each in ranked]
    assert names == sorted(gains, key=lambda name: -gains[name])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(cases())
def test_the_captions_of_all_beams_are_ranked(case: Case) -> None:
    config = replace(case.config, sample=False, num_beams=max(2, case.config.num_beams))

    def search(**changes: object) -> list[list[Hypothesis]]:
        model, prompts = case.make_model(), case.make_prompts()
        changed = replace(config, **changes)
        return beam_search(model.step, model.start(prompts), prompts, changed)

    found = search(num_captions=config.num_beams)
    ranked = search(consensus=True)
    assert ranked == [rank_by_consensus(captions)[: config.num_captions] for captions in found]


@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"sample": True, "num_captions": 5}])
def test_one_beam_has_no_consensus(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="consensus compares the captions of several beams"):
        GenerationConfig(consensus=True, **settings)
