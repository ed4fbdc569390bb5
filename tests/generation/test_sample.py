"""Greedy search compared with a naive one; sampling with the exact probabilities of captions."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_search import (
    caption_probabilities,
    compute_log_probs,
    next_probabilities,
    score_caption,
)
from naive_search import greedy_search as naive_greedy_search
from toy_model import (
    END,
    Case,
    History,
    ToyModel,
    cases,
    greedy_search,
    make_prompts,
    make_search,
    sample,
)

from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, generate
from cutline.generation.sample import sample_nucleus, sample_sorted, sample_tokens

quick = settings(max_examples=40, deadline=None, derandomize=True)


@settings(quick, max_examples=80)
@given(cases())
def test_greedy_search_equals_naive_greedy_search(case: Case) -> None:
    model, prompts = case.make_model(), case.make_prompts()
    batched = greedy_search(model.step, model.start(prompts), prompts, case.config)
    for image, captions in enumerate(batched):
        prompt, logits = tuple(case.prompts[image]), partial(model.logits, image)
        tokens = naive_greedy_search(logits, prompt, END, case.config)
        score = score_caption(logits, prompt, tokens, END, case.config)
        assert [caption.token_ids for caption in captions] == [tokens]
        assert captions[0].score == pytest.approx(score, rel=1e-4, abs=1e-5)
        log_probs = compute_log_probs(logits, prompt, tokens, END, case.config.max_length)
        assert list(captions[0].token_log_probs) == pytest.approx(log_probs, rel=1e-4, abs=1e-5)


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
    counts: Counter[History], model: ToyModel, prompt: History, config: GenerationConfig
) -> bool:
    """Test with chi-square whether captions were drawn with their exact probabilities."""
    expected = dict(caption_probabilities(partial(model.logits, 0), prompt, END, config))
    count, freedom = counts.total(), len(expected) - 1
    assert sum(expected.values()) == pytest.approx(1)
    if not counts.keys() <= expected.keys():
        return False
    chi_square = sum(
        (counts[tokens] - count * p) ** 2 / (count * p) for tokens, p in expected.items()
    )
    return chi_square <= freedom + 4 * math.sqrt(2 * freedom)  # four standard deviations


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
def test_captions_are_drawn_with_their_probabilities(options: dict[str, float]) -> None:
    config = GenerationConfig(sample=True, num_captions=4000, **(NEUTRAL | options))
    model, prompt = ToyModel(5, seed=1, scale=1.5), (2, 3)
    prompts = make_prompts([prompt])
    [captions] = generate(model.step, model.start(prompts), prompts, config)
    counts = Counter(caption.token_ids for caption in captions)
    assert is_plausible(counts, model, prompt, config)
    for name in options:  # each option has an effect
        if name != "max_length":
            without = replace(config, **{name: NEUTRAL[name]})
            assert not is_plausible(counts, model, prompt, without)


@quick
@given(cases(sample=True))
def test_sampled_tokens_are_possible_and_scored_by_the_model(case: Case) -> None:
    config, model, prompts = case.config, case.make_model(), case.make_prompts()
    relaxed = replace(config, top_p=min(1, config.top_p + 1e-6))
    cache = model.start(prompts)
    batched = generate(model.step, cache, prompts, config, make_search=make_search)
    for image, captions in enumerate(batched):
        prompt, logits = tuple(case.prompts[image]), partial(model.logits, image)
        scores = [caption.score for caption in captions]
        assert len(captions) == config.num_captions
        assert scores == sorted(scores, reverse=True)
        for caption in captions:
            ended = len(prompt) + len(caption.token_ids) < config.max_length
            tokens = caption.token_ids + (END,) * ended
            for position, token in enumerate(tokens):
                history = prompt + tokens[:position]
                assert token in next_probabilities(logits(history), history, END, relaxed)
            score = score_caption(logits, prompt, caption.token_ids, END, config)
            assert caption.score == pytest.approx(score, rel=1e-4, abs=1e-5)
            log_probs = compute_log_probs(logits, prompt, caption.token_ids, END, config.max_length)
            assert list(caption.token_log_probs) == pytest.approx(log_probs, rel=1e-4, abs=1e-5)


@quick
@given(cases(sample=True), st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_samples_do_not_depend_on_the_batch(case: Case, seeds: list[int]) -> None:
    model, prompts = case.make_model(), case.make_prompts()
    batched = sample(
        model.step, model.start(prompts), prompts, case.config, seeds[: len(case.prompts)]
    )
    calls = list(model.calls)
    num_steps = []
    for image, captions in enumerate(batched):
        model, prompts = case.make_model(), make_prompts([case.prompts[image]])
        [expected] = sample(
            model.step, model.start(prompts, [image]), prompts, case.config, [seeds[image]]
        )
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected
        ]
        num_steps.append(len(model.calls))
    for step, (images, _) in enumerate(calls):  # images that are done leave the batch
        assert sorted(images) == [image for image, count in enumerate(num_steps) if count > step]


def sample_captions(
    config: GenerationConfig, seeds: list[int] | None = None
) -> list[list[Hypothesis]]:
    """Caption two copies of the same image."""
    model, prompts = ToyModel(20, scale=0.5), make_prompts([[0, 2]] * 2)
    return generate(model.step, model.start(prompts, [7] * 2), prompts, config, seeds)


def test_the_seed_determines_the_captions() -> None:
    config = GenerationConfig(sample=True, max_length=12, num_captions=2, seed=5)
    first, second = sample_captions(config)
    assert first == second  # the same image with the same seed
    assert sample_captions(config) == sample_captions(replace(config, seed=1), seeds=[5, 5])
    assert sample_captions(replace(config, seed=6))[0] != first
    same_seed, other_seed = sample_captions(config, seeds=[5, 6])
    assert same_seed == first
    assert other_seed != first
    assert first[0] != first[1]  # the captions of one image are drawn independently


def test_nothing_is_sampled_without_sample() -> None:
    config = GenerationConfig(num_beams=1, max_length=12)
    assert sample_captions(replace(config, seed=1)) == sample_captions(replace(config, seed=2))
    assert sample_captions(replace(config, sample=True)) != sample_captions(config)


@given(
    st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=9, unique=True),
    st.floats(0.05, 1),
    st.integers(0, 9),
    st.integers(1, 30),
)
@settings(quick, max_examples=80)
def test_uniform_numbers_select_tokens_by_cumulative_probability(
    scores: list[float], top_p: float, top_k: int, tenths: int
) -> None:
    config = GenerationConfig(
        sample=True, top_p=top_p, top_k=top_k, temperature=tenths / 10, min_length=0
    )
    probabilities = next_probabilities(torch.tensor(scores), (), END, config)
    best_first = sorted(probabilities, key=lambda token: -probabilities[token])
    every = next_probabilities(torch.tensor(scores), (), END, replace(config, top_p=1.0))
    cumulative = [sum(list(every.values())[:i]) for i in range(len(scores))]
    # rounding decides whether a token is kept whose better tokens have exactly top_p
    assume(all(abs(total - top_p) > 1e-5 for total in cumulative))

    def draw(uniform: float) -> int:
        tokens = sample_tokens(torch.tensor([[scores]]), torch.tensor([[uniform]]), config)
        return int(tokens.item())

    before = 0.0
    for token in best_first:
        if probabilities[token] > 1e-5:
            assert draw(before + probabilities[token] / 2) == token
        before += probabilities[token]
    for uniform, token in ((0.0, best_first[0]), (1 - 2**-24, best_first[-1])):
        if probabilities[token] > 1e-5:
            assert draw(uniform) == token


@pytest.mark.parametrize(("top_p", "num_kept"), [(0.2, 1), (0.25, 2), (0.3, 2), (0.5, 3), (1.0, 4)])
def test_a_token_is_kept_if_better_tokens_have_exactly_top_p(top_p: float, num_kept: int) -> None:
    """Four tokens of 0.25 each: the boundary case is decided as in transformers 4.15."""
    uniforms = torch.arange(0, 1, 0.125)[None]
    scores = torch.full((1, 8, 4), 1.0)
    drawn = sample_tokens(scores, uniforms, GenerationConfig(sample=True, top_p=top_p))[0]
    every = sample_tokens(scores, uniforms, GenerationConfig(sample=True, top_p=1.0))[0]
    order = every[::2]  # equal scores, so in any order
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert drawn.tolist() == [int(order[int(uniform * num_kept)]) for uniform in uniforms[0]]


@pytest.mark.parametrize("round_to", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
def test_a_nucleus_of_a_large_vocabulary_is_that_of_all_tokens(
    scale: float, round_to: torch.dtype
) -> None:
    """Also where its tokens are more than are sorted, or have equal scores."""
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(8, 20, 5000, generator=generator).to(round_to).float()
    scores[0, 0] = torch.nan
    scores[1, 1, 1:] = -torch.inf
    scores[2, 2] = 0
    uniforms = torch.rand(8, 20, generator=generator)
    config = GenerationConfig(sample=True, top_k=0, top_p=0.9, temperature=0.7)
    tokens = sample_tokens(scores, uniforms, config)
    assert torch.equal(tokens, sample_sorted(scores, uniforms, config))
    share = sample_nucleus(scores, uniforms, config)[1].float().mean()
    assert share > 0.6 if scale == 4 else share < 0.6
