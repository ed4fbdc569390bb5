"""A running batch: any mix of requests equals each of them alone."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_model import Case, ToyCache, ToyModel, cases, make_prompts, make_search

from cutline.config import GenerationConfig
from cutline.errors import ConfigError, GenerationError
from cutline.generation import (
    Batch,
    Hypothesis,
    LogitsProcessor,
    NewRequests,
    Progress,
    Prompts,
    generate,
)
from cutline.generation.batch import compact
from cutline.generation.interfaces import Search

quick = settings(max_examples=40, deadline=None, derandomize=True)


def favor_multiples(input_ids: Tensor, scores: Tensor) -> Tensor:
    """Raise the scores of tokens that divide the sum of those so far, a logits processor."""
    assert len(input_ids) == len(scores)
    assert input_ids.min() >= 0
    divisors = torch.arange(scores.shape[1]) + 1
    return scores + (input_ids.sum(-1, keepdim=True) % divisors == 0)


def forbid_the_last(input_ids: Tensor, scores: Tensor) -> Tensor:
    """Forbid the last token, in place, a logits processor."""
    scores.scatter_(1, input_ids[:, -1:], -torch.inf)
    return scores


PROCESSORS: list[list[LogitsProcessor]] = [
    [],
    [favor_multiples],
    [favor_multiples, forbid_the_last],
    [forbid_the_last],
    [],
]


def make_request(
    model: ToyModel, numbers: Sequence[int], requests: Sequence[Case], padding: int = 0
) -> NewRequests[ToyCache]:
    """Make new requests; the toy model's image and the id of request n are n."""
    prompts = make_prompts([requests[number].prompts[0] for number in numbers], padding)
    configs = [requests[number].config for number in numbers]
    processors = [choose_processors(requests[number]) for number in numbers]
    return NewRequests(numbers, model.start(prompts, numbers), prompts, configs, processors)


def choose_processors(request: Case) -> list[LogitsProcessor]:
    return PROCESSORS[request.seed % len(PROCESSORS)]


def caption_alone(model: ToyModel, number: int, request: Case) -> list[Hypothesis]:
    prompts = make_prompts(request.prompts[:1])
    cache, config = model.start(prompts, [number]), request.config
    [captions] = generate(
        model.step,
        cache,
        prompts,
        config,
        logits_processors=choose_processors(request),
        make_search=make_search,
    )
    return captions


def assert_equal(captions: list[Hypothesis] | GenerationError, expected: list[Hypothesis]) -> None:
    assert isinstance(captions, list)
    assert [c.token_ids for c in captions] == [c.token_ids for c in expected]
    assert [c.score for c in captions] == pytest.approx([c.score for c in expected], rel=1e-5)
    assert [c.candidate for c in captions] == [c.candidate for c in expected]
    for caption, other in zip(captions, expected, strict=True):
        assert caption.token_log_probs == pytest.approx(other.token_log_probs, rel=1e-5)


any_case = st.one_of(cases(), cases(sample=True))


@quick
@given(st.lists(any_case, min_size=2, max_size=7), st.data())
def test_any_mix_of_requests_that_come_and_go_equals_each_alone(
    drawn: list[Case], data: st.DataObject
) -> None:
    """Requests join at any step, in groups of any size; some are removed before they are done."""
    requests = [replace(case, config=replace(case.config, seed=n)) for n, case in enumerate(drawn)]
    model, waiting = ToyModel(14, seed=5), list(range(len(requests)))
    batch: Batch[ToyCache] = Batch(model.step, make_search=make_search)
    results: dict[object, list[Hypothesis] | GenerationError] = {}
    removed = set()
    while waiting or len(batch):
        if waiting and (not len(batch) or data.draw(st.booleans())):
            count = data.draw(st.integers(1, len(waiting)))
            numbers, waiting = waiting[:count], waiting[count:]
            padding = data.draw(st.integers(0, 13))
            results.update(batch.add(make_request(model, numbers, requests, padding)))
        if len(batch) and data.draw(st.integers(0, 7)) == 7:
            request_id = data.draw(st.sampled_from(batch.request_ids))
            batch.remove([request_id])
            removed.add(request_id)
            assert request_id not in batch.request_ids
        if len(batch):
            results.update(batch.advance())
    assert results.keys() | removed == set(range(len(requests)))
    assert not results.keys() & removed
    for number, captions in results.items():
        assert isinstance(number, int)
        assert_equal(captions, caption_alone(model, number, requests[number]))


@quick
@given(any_case)
def test_settled_tokens_are_those_of_the_captions(case: Case) -> None:
    """Settled tokens never change, and a draft continues them."""
    model = case.make_model()
    batch: Batch[ToyCache] = Batch(model.step, make_search=make_search)
    results = batch.add(make_request(model, [0], [case]))
    steps: list[Progress] = []
    while len(batch):
        steps.append(batch.progress(0))
        results += batch.advance()
    [(_, captions)] = results
    assert isinstance(captions, list)
    by_candidate = {caption.candidate: caption.token_ids for caption in captions}
    for before, after in itertools.pairwise(steps):
        for old, new in zip(before.settled, after.settled, strict=True):
            assert new[: len(old)] == old
    for step in steps:
        assert len(step.settled) == case.config.num_captions or not case.config.sample
        for candidate, tokens in by_candidate.items():
            settled = step.settled[candidate]
            assert tokens[: len(settled)] == settled
        assert case.config.num_beams > 1 or case.config.sample or not step.draft


def test_every_token_of_greedy_search_is_settled_at_once() -> None:
    model = ToyModel(9, seed=2)
    config = GenerationConfig(num_beams=1, max_length=8, min_length=8)
    batch: Batch[ToyCache] = Batch(model.step, make_search=make_search)
    batch.add(make_request(model, [0], [Case(9, 0, [[0, 2]], 0, config)]))
    for count in range(1, 6):
        assert len(batch.progress(0).settled[0]) == count
        batch.advance()


def test_the_draft_of_a_beam_search_is_its_best_beam() -> None:
    config = GenerationConfig(num_beams=3, max_length=10, min_length=10)
    model, case = ToyModel(9, seed=2), Case(9, 0, [[0]], 0, config)
    batch: Batch[ToyCache] = Batch(model.step, make_search=make_search)
    batch.add(make_request(model, [0], [case]))
    progress = batch.progress(0)
    assert (progress.settled, len(progress.draft)) == ([()], 1)
    lengths = []
    while len(batch):
        progress = batch.progress(0)
        lengths.append(len(progress.settled[0]) + len(progress.draft))
        batch.advance()
    assert lengths == list(range(1, 9))


def test_requests_of_equal_settings_share_a_search() -> None:
    made = []

    def record(
        prompts: Prompts,
        configs: Sequence[GenerationConfig],
        processors: Sequence[LogitsProcessor],
    ) -> Search:
        made.append([config.seed for config in configs])
        return make_search(prompts, configs, processors)

    config = GenerationConfig(sample=True, max_length=9)
    other = GenerationConfig(max_length=9)
    requests = [
        Case(9, 0, [[0]], 0, setting) for setting in (config, other, replace(config, seed=3), other)
    ]
    model = ToyModel(9)
    batch: Batch[ToyCache] = Batch(model.step, make_search=record)
    batch.add(make_request(model, range(4), requests))
    assert made == [[0, 3], [0, 0]]


def test_a_processor_that_fails_ends_the_requests_that_share_it_alone() -> None:
    def fail_later(input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > 3:
            raise ValueError("no more")
        return scores

    model, config = ToyModel(9), GenerationConfig(max_length=9)
    requests = [Case(9, 0, [[0]], 0, config)] * 4
    new = make_request(model, range(4), requests)
    new = replace(new, logits_processors=[[], [fail_later], [fail_later], [favor_multiples]])
    batch: Batch[ToyCache] = Batch(model.step, make_search=make_search)
    results = dict(batch.add(new))
    while len(batch):
        results.update(batch.advance())
    for number in (1, 2):
        error = results[number]
        assert isinstance(error, GenerationError)
        assert re.search(r"fail_later failed \(ValueError: no more\); fix it$", str(error))
    other = generate(
        model.step,
        model.start(make_prompts([[0]]), [3]),
        make_prompts([[0]]),
        config,
        logits_processors=[favor_multiples],
        make_search=make_search,
    )
    assert_equal(results[0], caption_alone(model, 0, requests[0]))
    assert_equal(results[3], other[0])


def test_a_failed_start_leaves_the_batch_as_it_was() -> None:
    model, config = ToyModel(9), GenerationConfig(max_length=9)
    requests = [Case(9, 0, [[0]], 0, config)] * 2
    batch: Batch[ToyCache] = Batch(model.step, make_search=make_search)
    batch.add(make_request(model, [0], requests))
    too_long = Case(9, 0, [[0] * 9], 0, config)
    with pytest.raises(ConfigError, match=r"max_length 9 leaves no room .* has 9 tokens"):
        batch.add(make_request(model, [1], [requests[0], too_long]))
    results = []
    while len(batch):
        results += batch.advance()
    [(number, captions)] = results
    assert number == 0
    assert_equal(captions, caption_alone(model, 0, requests[0]))


def test_logits_of_nan_give_no_captions_and_change_no_other_request() -> None:
    settings: list[dict[str, object]] = [
        {"num_beams": 3},
        {"num_beams": 1},
        {"sample": True, "num_captions": 2},
        {"num_beams": 3, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"num_beams": 3, "beam_scoring": "huggingface"},
    ]
    for options in settings:
        config = GenerationConfig(max_length=9, **options)  # type: ignore[arg-type]
        model, requests = ToyModel(12), [Case(12, 0, [[0, 2]], 0, config)] * 3

        def step(ids: torch.Tensor, cache: ToyCache, model: ToyModel = model) -> torch.Tensor:
            logits = model.step(ids, cache)
            broken = torch.tensor([image == 1 for image in cache.images])
            return logits.masked_fill(broken[:, None, None], torch.nan)

        batch: Batch[ToyCache] = Batch(step)
        results = dict(batch.add(make_request(model, range(3), requests)))
        while len(batch):
            results.update(batch.advance())
        assert results[1] == []
        for number in (0, 2):
            assert_equal(results[number], caption_alone(model, number, requests[number]))


@pytest.mark.parametrize(
    ("done", "order"),
    [
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 0, 0], [0, 3, 2]),
        ([1, 1, 0, 0], [2, 3]),
        ([0, 0, 1, 1], [0, 1]),
        ([1, 1], []),
    ],
)
def test_the_last_images_fill_the_slots_of_those_done(done: list[int], order: list[int]) -> None:
    assert compact([not flag for flag in done]) == order
