"""What is changed in the scores before a token is chosen."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_search import constrained
from toy_steps import END, Case, cases

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NONE, append_tokens
from cutline.generation.logits_processors import constrain

quick = settings(max_examples=80, deadline=None, derandomize=True)


def one(scores: list[float], tokens: list[int], config: GenerationConfig) -> list[float]:
    """`constrain` of one row."""
    changed: list[float] = (
        constrain(
            torch.tensor([[scores]]),
            torch.tensor([[tokens]]),
            torch.tensor([sum(token != NONE for token in tokens)]),
            END,
            config,
        )
        .flatten()
        .tolist()
    )
    return changed


@quick
@given(cases(), st.data())
def test_a_batch_is_constrained_row_by_row(case: Case, data: st.DataObject) -> None:
    beams, prompts = data.draw(st.integers(1, 3)), case.batch()
    shape = (len(case.prompts), beams, data.draw(st.integers(0, 5)))
    generator = torch.Generator().manual_seed(case.seed)
    new = torch.randint(case.vocab, shape, generator=generator)
    ids = prompts.rows(prompts.ids.shape[1] + shape[2] + 2)[:, None].expand(-1, beams, -1)
    for number in range(shape[2]):
        ids = append_tokens(ids, prompts.lengths + number, new[..., number])
    scores = torch.randn(*shape[:2], case.vocab, generator=generator)
    before = scores.clone()
    ours = constrain(scores, ids, prompts.lengths + shape[2], END, case.config)
    assert torch.equal(scores, before)  # the input is left as it is
    for image in range(shape[0]):
        for beam in range(beams):
            tokens = tuple(token for token in ids[image, beam].tolist() if token != NONE)
            expected = constrained(scores[image, beam], tokens, END, case.config)
            assert ours[image, beam].tolist() == pytest.approx(expected)


def test_a_penalty_makes_good_and_bad_scores_worse_once() -> None:
    config = GenerationConfig(repetition_penalty=2.0, min_length=0)
    assert one([4.0, -4.0, 3.0, -3.0], [0, 1, 0, 0], config) == [2.0, -8.0, 3.0, -3.0]


def test_padding_is_no_token() -> None:
    config = GenerationConfig(repetition_penalty=2.0, min_length=0, no_repeat_ngram_size=1)
    assert one([4.0, -4.0, 3.0, 5.0], [2, NONE, NONE], config) == [4.0, -4.0, -math.inf, 5.0]


def test_what_is_impossible_stays_so_and_never_turns_into_nan() -> None:
    for penalty in (0.5, 2.0):
        config = GenerationConfig(repetition_penalty=penalty, min_length=9, no_repeat_ngram_size=1)
        assert one([-math.inf, -math.inf, 1.0], [0, 1, 2], config) == [-math.inf] * 3


@pytest.mark.parametrize(
    ("size", "tokens", "forbidden"),
    [
        (1, [2, 3], {2, 3}),
        (2, [2], set()),
        (2, [2, 3, 2], {3}),
        (2, [2, 2], {2}),
        (3, [2, 3, 4, 2, 3], {4}),
        (3, [2, 3], set()),
        (3, [2, 3, 2, 3], {2}),
        (4, [2, 3, 4, 5, 2, 3, 4], {5}),
        (4, [2, 3, 4, 5, 3, 4], set()),
    ],
)
def test_no_run_of_tokens_occurs_twice(size: int, tokens: list[int], forbidden: set[int]) -> None:
    changed = one([0.5] * 6, tokens, GenerationConfig(no_repeat_ngram_size=size, min_length=0))
    assert {token for token, score in enumerate(changed) if score == -math.inf} == forbidden


def test_the_end_is_forbidden_below_min_length() -> None:
    config = GenerationConfig(min_length=3)
    assert one([1.0, 1.0], [0, 0], config) == [1.0, -math.inf]
    assert one([1.0, 1.0], [0, 0, 0], config) == [1.0, 1.0]
