"""Beam search against a plain one, and what it may ask of the model."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_search import beam_search as plain_beam_search
from plain_search import own_score
from torch import Tensor
from toy_steps import (
    END,
    Case,
    History,
    ToyCache,
    ToyModel,
    beam_search,
    cases,
    greedy_search,
    prompts_of,
)

from cutline.config import BeamScoring, GenerationConfig
from cutline.errors import ConfigError
from cutline.generation import Hypothesis, NewRequests, begin, generate, generate_stream

quick = settings(max_examples=50, deadline=None, derandomize=True)


def found(case: Case) -> list[list[Hypothesis]]:
    """What our beam search finds for a batch."""
    model, prompts = case.model(), case.batch()
    return beam_search(model.step, model.start(prompts), prompts, case.config)


@settings(quick, max_examples=120)
@given(cases())
def test_beam_search_is_the_reference_written_plainly(case: Case) -> None:
    for picture, captions in enumerate(found(case)):
        model = case.model()
        plain = plain_beam_search(
            lambda history, p=picture, m=model: m.logits(p, history),
            tuple(case.prompts[picture]),
            END,
            case.config,
        )  # type: ignore[misc]
        assert [caption.token_ids for caption in captions] == [tokens for _, tokens in plain]
        assert [caption.score for caption in captions] == pytest.approx(
            [score for score, _ in plain], rel=1e-4, abs=1e-5
        )


@quick
@given(cases())
def test_a_batch_equals_its_parts_and_what_is_done_leaves_it(case: Case) -> None:
    model, prompts = case.model(), case.batch()
    together = beam_search(model.step, model.start(prompts), prompts, case.config)
    needed = []
    for picture, captions in enumerate(together):
        alone = case.model()
        expected = beam_search(
            alone.step,
            alone.start(prompts_of([case.prompts[picture]]), [picture]),
            prompts_of([case.prompts[picture]]),
            case.config,
        )[0]
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected
        ]
        assert len(alone.calls) <= case.config.max_length - len(case.prompts[picture])
        needed.append(len(alone.calls))
    for number, (pictures, shape) in enumerate(model.calls):
        assert sorted(pictures) == [
            picture for picture, calls in enumerate(needed) if calls > number
        ]
        beams, length = (case.config.num_beams, 1) if number else (1, max(map(len, case.prompts)))
        assert shape == (len(pictures), beams, length)


def test_pictures_leave_at_different_times() -> None:
    model, prompts = ToyModel(8, seed=3), prompts_of([[0]] * 6)
    beam_search(
        model.step,
        model.start(prompts),
        prompts,
        GenerationConfig(num_beams=2, max_length=12, min_length=0),
    )
    rows = [len(pictures) for pictures, _ in model.calls]
    assert rows[0] == 6
    assert len(set(rows)) >= 3


@quick
@given(cases(max_beams=1))
def test_one_beam_is_greedy_search_without_penalty(case: Case) -> None:
    case = replace(case, config=replace(case.config, repetition_penalty=1.0))
    model, prompts = case.model(), case.batch()
    greedy = greedy_search(model.step, model.start(prompts), prompts, case.config)
    for one_beam, expected in zip(found(case), greedy, strict=True):
        for caption in one_beam:  # none where every token is forbidden
            assert caption.token_ids == expected[0].token_ids
            if not (case.config.min_length or case.config.no_repeat_ngram_size):
                assert caption.score == pytest.approx(expected[0].score, rel=1e-4)


def test_with_a_penalty_one_beam_is_not_greedy_search() -> None:
    config = GenerationConfig(num_beams=1, max_length=8, min_length=0, repetition_penalty=2.0)
    model, prompts = ToyModel(6), prompts_of([[0]] * 20)
    one_beam = beam_search(model.step, model.start(prompts), prompts, config)
    greedy = generate(model.step, model.start(prompts), prompts, config)
    assert [captions[0].token_ids for captions in one_beam] != [
        captions[0].token_ids for captions in greedy
    ]


@settings(quick, max_examples=40)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 10**6))
def test_beams_as_wide_as_the_tree_find_everything(vocab: int, room: int, seed: int) -> None:
    prompt = (0, 1)
    others = [token for token in range(vocab) if token != END]
    ended = [
        tokens for length in range(room) for tokens in itertools.product(others, repeat=length)
    ]
    every = ended + list(itertools.product(others, repeat=room))
    config = GenerationConfig(
        num_beams=vocab**room,
        num_captions=len(every),
        max_length=2 + room,
        min_length=0,
        length_penalty=0.0,
    )
    model, prompts = ToyModel(vocab, seed), prompts_of([prompt])
    captions = beam_search(model.step, model.start(prompts), prompts, config)[0]
    scores = {
        tokens: own_score(lambda history: model.logits(0, history), prompt, tokens, END, config)
        for tokens in every
    }
    assert {caption.token_ids: caption.score for caption in captions} == pytest.approx(
        scores, rel=1e-4, abs=1e-5
    )
    assert [caption.score for caption in captions] == sorted(
        (caption.score for caption in captions), reverse=True
    )
    assert sum(math.exp(score) for score in scores.values()) == pytest.approx(1, abs=1e-4)


def certain(*rows: dict[int, float]) -> Tensor:
    """Log-probabilities (B, 1, 4) of four tokens; what is not named is next to impossible."""
    return torch.tensor([[[math.log(row.get(token, 1e-30)) for token in range(4)]] for row in rows])


class Forgetful:
    """A cache of a step that needs none."""

    def reorder(self, beams: Tensor) -> None: ...

    def select(self, images: Tensor) -> None: ...

    def extend(self, other: "Forgetful") -> None: ...


def test_an_end_token_below_the_first_k_is_dropped() -> None:
    config = GenerationConfig(num_beams=2, max_length=3, min_length=0, num_captions=2)
    third = certain({2: 0.5, 3: 0.3, END: 0.2})
    captions = beam_search(
        lambda ids, cache: third.expand(-1, ids.shape[1], -1),
        Forgetful(),
        prompts_of([[0]]),
        config,
    )[0]
    assert () not in [caption.token_ids for caption in captions]


@pytest.mark.parametrize(
    ("scoring", "best"), [("blip", (3, 2, 2, 2, 2, 2, 2, 2, 2)), ("huggingface", (2,))]
)
def test_when_a_picture_is_done(scoring: BeamScoring, best: History) -> None:
    """At length 2 both beams end, and of what goes on, the third and fourth candidates, nothing beats them by its score of now.

    But the best candidate, an end, does; blip counts it and goes on to a caption that length makes better.
    """
    model = ToyModel(4)
    model.known[0, (0,)] = certain({2: 0.5, 3: 0.3, END: 0.2})[0, 0]
    model.known[0, (0, 2)] = certain({END: 0.9, 2: 0.1})[0, 0]
    model.known[0, (0, 3)] = certain({END: 0.6, 2: 0.4})[0, 0]
    for length in range(1, 9):
        model.known[0, (0, 2) + (2,) * length] = certain({3: 0.25, 2: 0.25, 0: 0.25, END: 0.25})[
            0, 0
        ]
        model.known[0, (0, 3) + (2,) * length] = certain({2: 0.999})[0, 0]
    config = GenerationConfig(num_beams=2, max_length=10, min_length=0, beam_scoring=scoring)
    prompts = prompts_of([[0]])
    assert beam_search(model.step, model.start(prompts), prompts, config)[0][0].token_ids == best


@pytest.mark.parametrize(
    ("scoring", "length", "ended_length"), [("blip", 4, 3), ("huggingface", 2, 2)]
)
def test_what_length_counts(scoring: BeamScoring, length: int, ended_length: int) -> None:
    config = GenerationConfig(
        num_beams=2, max_length=4, min_length=0, num_captions=2, beam_scoring=scoring
    )

    def step(ids: Tensor, cache: Forgetful) -> Tensor:
        logits = certain({2: 1.0}) if ids.shape[2] == 2 else certain({2: 0.6, END: 0.4})
        return logits.expand(-1, ids.shape[1], -1)

    whole, ended = beam_search(step, Forgetful(), prompts_of([[0, 0]]), config)[0]
    assert (whole.token_ids, ended.token_ids) == ((2, 2), (2,))
    assert whole.score == pytest.approx(math.log(0.6) / length)
    assert ended.score == pytest.approx(math.log(0.4) / ended_length)


def test_every_caption_that_was_asked_for_is_there_best_first() -> None:
    model, prompts = ToyModel(9), prompts_of([[0], [2, 3]])
    for count in range(1, 5):
        config = GenerationConfig(num_beams=4, num_captions=count, max_length=10, min_length=0)
        for captions in generate(model.step, model.start(prompts), prompts, config):
            assert len({caption.token_ids for caption in captions}) == count
            assert [caption.score for caption in captions] == sorted(
                (caption.score for caption in captions), reverse=True
            )


def test_a_prompt_that_leaves_no_room_is_an_error() -> None:
    model, prompts = ToyModel(9), prompts_of([[0], [2, 3, 4, 5, 6]])
    for sample in (False, True):
        with pytest.raises(ConfigError, match="the prompt has 5 tokens, so max_length 5"):
            generate(
                model.step,
                model.start(prompts),
                prompts,
                GenerationConfig(max_length=5, sample=sample),
            )


@quick
@given(st.one_of(cases(), cases(sample=True)), st.data())
def test_pictures_that_take_the_places_of_others_are_captioned_as_in_one_batch(
    case: Case, data: st.DataObject
) -> None:
    """Any number of places, newcomers in any portions: every image's captions, each once, by its number."""
    model, count = case.model(), len(case.prompts) * 3
    rows = [case.prompts[number % len(case.prompts)] for number in range(count)]
    seeds = list(range(count))
    expected = generate(
        model.step, model.start(prompts_of(rows)), prompts_of(rows), case.config, seeds
    )
    places = data.draw(st.integers(1, count))
    at_once = data.draw(st.integers(1, places))
    coming = list(range(count))

    def admit(room: int) -> NewRequests[ToyCache] | None:
        assert 1 <= room <= at_once
        new, coming[:] = coming[:room], coming[room:]
        prompts = prompts_of([rows[number] for number in new], case.padding) if new else None
        return (
            NewRequests(new, model.start(prompts, new), prompts, [seeds[number] for number in new])
            if prompts
            else None
        )

    model.calls.clear()
    found = list(generate_stream(model.step, admit, partial(begin, case.config), places, at_once))
    assert sorted(number for number, _ in found) == list(range(count))
    assert all(len(pictures) <= places for pictures, _ in model.calls)
    for number, captions in found:
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected[number]
        ]
        assert [caption.score for caption in captions] == pytest.approx(
            [caption.score for caption in expected[number]], rel=1e-5
        )


def test_a_free_place_is_not_left_empty() -> None:
    """With one place and images one at a time, the next begins in the step after the last one's end."""
    model, rows = ToyModel(8, seed=3), [[0]] * 6
    coming = iter(
        [
            NewRequests([number], model.start(prompts_of([[0]]), [number]), prompts_of([[0]]))
            for number in range(len(rows))
        ]
    )
    config = GenerationConfig(num_beams=2, max_length=12, min_length=0)
    found = list(
        generate_stream(model.step, lambda room: next(coming, None), partial(begin, config), 2, 1)
    )
    assert [number for number, _ in found] != list(range(6))  # as they end, not as they came
    working = [len(pictures) for pictures, (_, beams, _) in model.calls if beams == 2]
    assert working.count(1) <= 12  # but at the very end, while nothing is left to come
