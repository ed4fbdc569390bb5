"""Changes to the scores of the next token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_search import process_row
from toy_model import END, Case, cases, make_chain

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_TOKEN
from cutline.generation.state import append_tokens

quick = settings(max_examples=80, deadline=None, derandomize=True)


def process(scores: list[float], tokens: list[int], config: GenerationConfig) -> list[float]:
    """Apply the processors of settings to one row."""
    lengths = torch.tensor([sum(token != NO_TOKEN for token in tokens)])
    ids = torch.tensor([[tokens]])
    processed = make_chain(config).process(torch.tensor([[scores]]), ids, lengths)
    result: list[float] = processed.flatten().tolist()
    return result


@quick
@given(cases(), st.data())
def test_a_batch_is_processed_row_by_row(case: Case, data: st.DataObject) -> None:
    beams, prompts = data.draw(st.integers(1, 3)), case.make_prompts()
    shape = (len(case.prompts), beams, data.draw(st.integers(0, 5)))
    generator = torch.Generator().manual_seed(case.seed)
    new = torch.randint(case.vocab, shape, generator=generator)
    width = prompts.input_ids.shape[1] + shape[2] + 2
    ids = prompts.left_align(width)[:, None].expand(-1, beams, -1)
    for number in range(shape[2]):
        ids = append_tokens(ids, prompts.lengths + number, new[..., number])
    scores = torch.randn(*shape[:2], case.vocab, generator=generator)
    before = scores.clone()
    processed = make_chain(case.config).process(scores, ids, prompts.lengths + shape[2])
    for image in range(shape[0]):
        for beam in range(beams):
            tokens = tuple(token for token in ids[image, beam].tolist() if token != NO_TOKEN)
            expected = process_row(before[image, beam], tokens, END, case.config)
            assert processed[image, beam].tolist() == pytest.approx(expected)


def test_repetition_penalty_lowers_positive_and_negative_scores_once() -> None:
    config = GenerationConfig(repetition_penalty=2.0, min_length=0)
    assert process([4.0, -4.0, 3.0, -3.0], [0, 1, 0, 0], config) == [2.0, -8.0, 3.0, -3.0]


def test_padding_is_ignored() -> None:
    config = GenerationConfig(repetition_penalty=2.0, min_length=0, no_repeat_ngram_size=1)
    tokens = [2, NO_TOKEN, NO_TOKEN]
    assert process([4.0, -4.0, 3.0, 5.0], tokens, config) == [4.0, -4.0, -math.inf, 5.0]


def test_minus_infinity_never_becomes_nan() -> None:
    for penalty in (0.5, 2.0):
        config = GenerationConfig(repetition_penalty=penalty, min_length=9, no_repeat_ngram_size=1)
        assert process([-math.inf, -math.inf, 1.0], [0, 1, 2], config) == [-math.inf] * 3


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
def test_no_ngram_occurs_twice(size: int, tokens: list[int], forbidden: set[int]) -> None:
    config = GenerationConfig(no_repeat_ngram_size=size, min_length=0)
    scores = process([0.5] * 6, tokens, config)
    assert {token for token, score in enumerate(scores) if score == -math.inf} == forbidden


@pytest.mark.parametrize(
    ("words", "tokens", "forbidden"),
    [
        (("2",), [3], {2}),
        (("2", "4"), [2, 2], {2, 4}),
        (("2 3",), [4, 2], {3}),
        (("2 3",), [2, 4], set()),
        (("2 3 4",), [2, 3], {4}),
        (("2 3 4",), [3], set()),
        (("2 2 4",), [2], set()),
        (("2 3 4", "3 5", "3 4", "0"), [2, 3], {0, 4, 5}),
        (("2 3 4 5 2 3 4",), [2, 3, 4, 5, 2, 3], set()),  # longer than captions
    ],
)
def test_the_last_token_of_a_bad_word_is_forbidden_after_the_others(
    words: tuple[str, ...], tokens: list[int], forbidden: set[int]
) -> None:
    config = GenerationConfig(bad_words=words, min_length=0, max_length=6)
    scores = process([0.5] * 6, tokens, config)
    assert {token for token, score in enumerate(scores) if score == -math.inf} == forbidden


def test_the_end_token_is_forbidden_below_min_length() -> None:
    config = GenerationConfig(min_length=3)
    assert process([1.0, 1.0], [0, 0], config) == [1.0, -math.inf]
    assert process([1.0, 1.0], [0, 0, 0], config) == [1.0, 1.0]
