"""Beam search compared with a naive one, and which steps it asks of the model."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_search import beam_search as naive_beam_search
from naive_search import compute_log_probs, score_caption
from torch import Tensor
from toy_model import (
    END,
    Case,
    History,
    ToyModel,
    beam_search,
    cases,
    greedy_search,
    make_prompts,
)

from cutline.config import BeamScoring, GenerationConfig
from cutline.generation import Hypothesis, generate

quick = settings(max_examples=50, deadline=None, derandomize=True)


def search_case(case: Case) -> list[list[Hypothesis]]:
    model, prompts = case.make_model(), case.make_prompts()
    return beam_search(model.step, model.start(prompts), prompts, case.config)


def token_ids(captions: Sequence[Hypothesis]) -> list[History]:
    return [caption.token_ids for caption in captions]


def scores(captions: Sequence[Hypothesis]) -> list[float]:
    return [caption.score for caption in captions]


@settings(quick, max_examples=80)
@given(cases())
def test_beam_search_equals_naive_beam_search(case: Case) -> None:
    model = case.make_model()
    for image, captions in enumerate(search_case(case)):
        prompt = tuple(case.prompts[image])
        expected = naive_beam_search(partial(model.logits, image), prompt, END, case.config)
        assert token_ids(captions) == [tokens for _, tokens in expected]
        assert scores(captions) == pytest.approx(
            [score for score, _ in expected], rel=1e-4, abs=1e-5
        )


@quick
@given(cases())
def test_token_log_probs_are_those_of_the_model(case: Case) -> None:
    """Of every caption, whatever penalties and limits led to it."""
    model, config = case.make_model(), case.config
    for image, captions in enumerate(search_case(case)):
        logits, prompt = partial(model.logits, image), tuple(case.prompts[image])
        for caption in captions:
            log_probs = compute_log_probs(logits, prompt, caption.token_ids, END, config.max_length)
            assert list(caption.token_log_probs) == pytest.approx(log_probs, rel=1e-4, abs=1e-5)


@quick
@given(cases())
def test_captions_do_not_depend_on_the_batch_and_done_images_leave_it(case: Case) -> None:
    model, prompts = case.make_model(), case.make_prompts()
    batched = beam_search(model.step, model.start(prompts), prompts, case.config)
    num_steps = []
    for image, captions in enumerate(batched):
        single, prompt = case.make_model(), make_prompts([case.prompts[image]])
        [expected] = beam_search(single.step, single.start(prompt, [image]), prompt, case.config)
        assert token_ids(captions) == token_ids(expected)
        assert len(single.calls) <= case.config.max_length - len(case.prompts[image])
        num_steps.append(len(single.calls))
    for step, (images, shape) in enumerate(model.calls):
        assert sorted(images) == [image for image, count in enumerate(num_steps) if count > step]
        beams, length = (case.config.num_beams, 1) if step else (1, max(map(len, case.prompts)))
        assert shape == (len(images), beams, length)


def test_images_leave_the_batch_at_different_steps() -> None:
    model, prompts = ToyModel(8, seed=3), make_prompts([[0]] * 6)
    config = GenerationConfig(num_beams=2, max_length=12, min_length=0)
    beam_search(model.step, model.start(prompts), prompts, config)
    batch_sizes = [len(images) for images, _ in model.calls]
    assert batch_sizes[0] == 6
    assert len(set(batch_sizes)) >= 3


@quick
@given(cases(max_beams=1))
def test_one_beam_is_greedy_search_without_repetition_penalty(case: Case) -> None:
    case = replace(case, config=replace(case.config, repetition_penalty=1.0))
    model, prompts = case.make_model(), case.make_prompts()
    greedy = greedy_search(model.step, model.start(prompts), prompts, case.config)
    for captions, expected in zip(search_case(case), greedy, strict=True):
        for caption in captions:  # there is none where every token is forbidden
            assert caption.token_ids == expected[0].token_ids
            config = case.config
            if not (config.min_length or config.no_repeat_ngram_size or config.bad_words):
                assert caption.score == pytest.approx(expected[0].score, rel=1e-4)


def test_one_beam_is_not_greedy_search_with_repetition_penalty() -> None:
    config = GenerationConfig(num_beams=1, max_length=8, min_length=0, repetition_penalty=2.0)
    model, prompts = ToyModel(6), make_prompts([[0]] * 20)
    one_beam = beam_search(model.step, model.start(prompts), prompts, config)
    greedy = generate(model.step, model.start(prompts), prompts, config)
    assert [token_ids(captions) for captions in one_beam] != [
        token_ids(captions) for captions in greedy
    ]


@settings(quick, max_examples=40)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 10**6))
def test_enough_beams_find_every_caption(vocab: int, max_new_tokens: int, seed: int) -> None:
    prompt = (0, 1)
    others = [token for token in range(vocab) if token != END]
    every = [
        tokens
        for length in range(max_new_tokens + 1)
        for tokens in itertools.product(others, repeat=length)
    ]
    config = GenerationConfig(
        num_beams=vocab**max_new_tokens,
        num_captions=len(every),
        max_length=2 + max_new_tokens,
        min_length=0,
        length_penalty=0.0,
    )
    model, prompts = ToyModel(vocab, seed), make_prompts([prompt])
    [captions] = beam_search(model.step, model.start(prompts), prompts, config)
    logits = partial(model.logits, 0)
    expected = {tokens: score_caption(logits, prompt, tokens, END, config) for tokens in every}
    assert {caption.token_ids: caption.score for caption in captions} == pytest.approx(
        expected, rel=1e-4, abs=1e-5
    )
    assert scores(captions) == sorted(scores(captions), reverse=True)
    assert sum(math.exp(score) for score in expected.values()) == pytest.approx(1, abs=1e-4)


def make_logits(*rows: dict[int, float]) -> Tensor:
    """Make log-probabilities (B, 1, 4) of four tokens; those not given are nearly impossible."""
    return torch.tensor([[[math.log(row.get(token, 1e-30)) for token in range(4)]] for row in rows])


class EmptyCache:
    """A cache for a step that needs none."""

    def reorder(self, beams: Tensor) -> None: ...

    def select(self, images: Tensor) -> None: ...

    def resize(self, max_tokens: int, num_beams: int, exact: bool = False) -> None: ...

    def extend(self, other: "EmptyCache") -> None: ...


def test_an_end_token_below_the_first_k_candidates_is_dropped() -> None:
    config = GenerationConfig(num_beams=2, max_length=3, min_length=0, num_captions=2)
    logits = make_logits({2: 0.5, 3: 0.3, END: 0.2})
    [captions] = beam_search(
        lambda ids, cache: logits.expand(-1, ids.shape[1], -1),
        EmptyCache(),
        make_prompts([[0]]),
        config,
    )
    assert () not in token_ids(captions)


@pytest.mark.parametrize(
    ("scoring", "best"), [("blip", (3, 2, 2, 2, 2, 2, 2, 2, 2)), ("huggingface", (2,))]
)
def test_when_an_image_is_done(scoring: BeamScoring, best: History) -> None:
    """At length 2 both beams end, and no other candidate beats them by its present score.

    The best candidate, which is an end, does: blip counts it, and continues to a caption whose
    length gives it a better score.
    """
    model = ToyModel(4)
    model.fixed[0, (0,)] = make_logits({2: 0.5, 3: 0.3, END: 0.2})[0, 0]
    model.fixed[0, (0, 2)] = make_logits({END: 0.9, 2: 0.1})[0, 0]
    model.fixed[0, (0, 3)] = make_logits({END: 0.6, 2: 0.4})[0, 0]
    uniform = make_logits({3: 0.25, 2: 0.25, 0: 0.25, END: 0.25})[0, 0]
    for length in range(1, 9):
        model.fixed[0, (0, 2) + (2,) * length] = uniform
        model.fixed[0, (0, 3) + (2,) * length] = make_logits({2: 0.999})[0, 0]
    config = GenerationConfig(num_beams=2, max_length=10, min_length=0, beam_scoring=scoring)
    prompts = make_prompts([[0]])
    [captions] = beam_search(model.step, model.start(prompts), prompts, config)
    assert captions[0].token_ids == best


@pytest.mark.parametrize(
    ("scoring", "length", "ended_length"), [("blip", 4, 3), ("huggingface", 2, 2)]
)
def test_which_tokens_count_as_length(scoring: BeamScoring, length: int, ended_length: int) -> None:
    config = GenerationConfig(
        num_beams=2, max_length=4, min_length=0, num_captions=2, beam_scoring=scoring
    )

    def step(ids: Tensor, cache: EmptyCache) -> Tensor:
        logits = make_logits({2: 1.0}) if ids.shape[2] == 2 else make_logits({2: 0.6, END: 0.4})
        return logits.expand(-1, ids.shape[1], -1)

    longest, ended = beam_search(step, EmptyCache(), make_prompts([[0, 0]]), config)[0]
    assert (longest.token_ids, ended.token_ids) == ((2, 2), (2,))
    assert longest.score == pytest.approx(math.log(0.6) / length)
    assert ended.score == pytest.approx(math.log(0.4) / ended_length)


def test_num_captions_different_captions_are_returned_best_first() -> None:
    model, prompts = ToyModel(9), make_prompts([[0], [2, 3]])
    for count in range(1, 5):
        config = GenerationConfig(num_beams=4, num_captions=count, max_length=10, min_length=0)
        for captions in generate(model.step, model.start(prompts), prompts, config):
            assert len(set(token_ids(captions))) == count
            assert scores(captions) == sorted(scores(captions), reverse=True)
