"""Greedy search against a plain one; sampling against the exact probabilities of every caption."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_search import caption_probabilities, next_probabilities, own_score
from plain_search import greedy_search as plain_greedy_search
from toy_steps import END, Case, ToyModel, cases, greedy_search, prompts_of, sample

from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, generate
from cutline.generation.sample import sample_tokens

quick = settings(max_examples=40, deadline=None, derandomize=True)


@settings(quick, max_examples=80)
@given(cases())
def test_greedy_search_is_the_plain_one(case: Case) -> None:
    model, prompts = case.model(), case.batch()
    for picture, captions in enumerate(
        greedy_search(model.step, model.start(prompts), prompts, case.config)
    ):
        start = tuple(case.prompts[picture])
        tokens = plain_greedy_search(
            lambda history, p=picture: model.logits(p, history), start, END, case.config
        )  # type: ignore[misc]
        score = own_score(
            lambda history, p=picture: model.logits(p, history), start, tokens, END, case.config
        )  # type: ignore[misc]
        assert [caption.token_ids for caption in captions] == [tokens]
        assert captions[0].score == pytest.approx(score, rel=1e-4, abs=1e-5)


NEUTRAL = {
    "max_length": 4,
    "min_length": 0,
    "top_k": 0,
    "top_p": 1.0,
    "temperature": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}


def is_plausible(
    drawn: Counter[tuple[int, ...]],
    model: ToyModel,
    prompt: tuple[int, ...],
    config: GenerationConfig,
) -> bool:
    """Whether captions as often as in `drawn` come from the exact probabilities: a chi-square test."""
    expected = dict(
        caption_probabilities(lambda history: model.logits(0, history), prompt, END, config)
    )
    count, freedom = drawn.total(), len(expected) - 1
    assert sum(expected.values()) == pytest.approx(1)
    chi_square = sum(
        (drawn[tokens] - count * p) ** 2 / (count * p) for tokens, p in expected.items()
    )
    return drawn.keys() <= expected.keys() and chi_square <= freedom + 4 * math.sqrt(
        2 * freedom
    )  # four standard deviations


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 2},
        {"top_k": 1},
        {"top_p": 0.6},
        {"top_p": 0.5, "temperature": 3.0},
        {"top_k": 3, "top_p": 0.7, "temperature": 2.0},
        {"repetition_penalty": 2.0},
        {"repetition_penalty": 1.7, "temperature": 2.0, "top_p": 0.8},
        {"min_length": 4},
        {"min_length": 4, "top_k": 3},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2, "max_length": 5},
    ],
    ids=str,
)
def test_captions_are_drawn_as_often_as_they_should_be(options: dict[str, float]) -> None:
    config = GenerationConfig(sample=True, num_captions=4000, **(NEUTRAL | options))  # type: ignore[arg-type]
    model, prompt = ToyModel(5, seed=1, scale=1.5), (2, 3)
    prompts = prompts_of([prompt])
    captions = generate(model.step, model.start(prompts), prompts, config)[0]
    drawn = Counter(caption.token_ids for caption in captions)
    assert is_plausible(drawn, model, prompt, config)
    for name in options:  # and without any one of them they would not be
        if name != "max_length":
            assert not is_plausible(drawn, model, prompt, replace(config, **{name: NEUTRAL[name]}))  # type: ignore[arg-type]


@quick
@given(cases(sample=True))
def test_what_is_drawn_is_possible_and_scored_by_the_model_itself(case: Case) -> None:
    config, model, prompts = case.config, case.model(), case.batch()
    for picture, captions in enumerate(generate(model.step, model.start(prompts), prompts, config)):
        start = tuple(case.prompts[picture])
        assert len(captions) == config.num_captions
        assert [caption.score for caption in captions] == sorted(
            (caption.score for caption in captions), reverse=True
        )
        for caption in captions:
            tokens = caption.token_ids + (END,) * (
                len(start) + len(caption.token_ids) < config.max_length
            )
            for place, token in enumerate(tokens):
                history = start + tokens[:place]
                possible = next_probabilities(
                    model.logits(picture, history),
                    history,
                    END,
                    replace(config, top_p=min(1, config.top_p + 1e-6)),
                )
                assert token in possible
            score = own_score(
                lambda history, p=picture: model.logits(p, history),
                start,
                caption.token_ids,
                END,
                config,
            )  # type: ignore[misc]
            assert caption.score == pytest.approx(score, rel=1e-4, abs=1e-5)


@quick
@given(cases(sample=True), st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_a_batch_equals_its_parts(case: Case, seeds: list[int]) -> None:
    model, prompts = case.model(), case.batch()
    together = sample(
        model.step, model.start(prompts), prompts, case.config, seeds[: len(case.prompts)]
    )
    calls = list(model.calls)
    needed = []
    for picture, captions in enumerate(together):
        model, prompts = case.model(), prompts_of([case.prompts[picture]])
        alone = sample(
            model.step, model.start(prompts, [picture]), prompts, case.config, [seeds[picture]]
        )[0]
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in alone
        ]
        needed.append(len(model.calls))
    for number, (pictures, _) in enumerate(calls):  # and what is over leaves the batch
        assert pictures == [picture for picture, count in enumerate(needed) if count > number]


def captions_of(
    config: GenerationConfig, seeds: list[int] | None = None, pictures: int = 2
) -> list[list[Hypothesis]]:
    model, prompts = ToyModel(20, scale=0.5), prompts_of([[0, 2]] * pictures)
    return generate(model.step, model.start(prompts, [7] * pictures), prompts, config, seeds)


def test_the_seed_decides() -> None:
    config = GenerationConfig(sample=True, max_length=12, num_captions=2, seed=5)
    first, second = captions_of(config)
    assert first == second  # the same image with the same seed
    assert captions_of(config) == captions_of(replace(config, seed=1), seeds=[5, 5])
    assert captions_of(replace(config, seed=6))[0] != first
    one, other = captions_of(config, seeds=[5, 6])
    assert one == first
    assert other != first
    assert one[0] != one[1]  # the captions of an image are drawn apart


def test_sampling_has_to_be_asked_for() -> None:
    config = GenerationConfig(num_beams=1, max_length=12)
    assert captions_of(replace(config, seed=1)) == captions_of(replace(config, seed=2))
    assert captions_of(replace(config, sample=True)) != captions_of(config)


@given(
    st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=9, unique=True),
    st.floats(0.05, 1),
    st.integers(0, 9),
    st.integers(1, 30),
)
@settings(quick, max_examples=80)
def test_a_draw_goes_through_the_tokens_by_their_probability(
    scores: list[float], top_p: float, top_k: int, tenths: int
) -> None:
    config = GenerationConfig(sample=True, top_p=top_p, top_k=top_k, temperature=tenths / 10)
    shares = next_probabilities(torch.tensor(scores), (), END, replace(config, min_length=0))
    before = 0.0
    best_first = sorted(shares, key=lambda token: -shares[token])
    better = [
        sum(
            list(
                next_probabilities(
                    torch.tensor(scores), (), END, replace(config, min_length=0, top_p=1.0)
                ).values()
            )[:i]
        )
        for i in range(len(scores))
    ]
    assume(all(abs(total - top_p) > 1e-5 for total in better))  # on the border rounding decides
    for token in best_first:
        middle = torch.tensor([[before + shares[token] / 2]])
        if shares[token] > 1e-5:
            assert sample_tokens(torch.tensor([[scores]]), middle, config).item() == token
        before += shares[token]
    for edge, token in ((0.0, best_first[0]), (1 - 2**-24, best_first[-1])):
        if shares[token] > 1e-5:
            assert (
                sample_tokens(torch.tensor([[scores]]), torch.tensor([[edge]]), config).item()
                == token
            )


@pytest.mark.parametrize(("top_p", "kept"), [(0.2, 1), (0.25, 2), (0.3, 2), (0.5, 3), (1.0, 4)])
def test_borders_belong_to_the_next_token(top_p: float, kept: int) -> None:
    """Of four tokens of 0.25 the next one stays while those before it have not passed top_p, as in transformers 4.15."""
    uniforms = torch.arange(0, 1, 0.125)[None]
    scores = torch.full((1, 8, 4), 1.0)
    drawn = sample_tokens(scores, uniforms, GenerationConfig(sample=True, top_p=top_p))[0]
    order = sample_tokens(scores, uniforms, GenerationConfig(sample=True, top_p=1.0))[
        0, ::2
    ]  # equal ones in any order
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert drawn.tolist() == [int(order[int(uniform * kept)]) for uniform in uniforms[0]]
