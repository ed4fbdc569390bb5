"""The generation loop: continuous batching, and prompts that are too long."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_model import Case, ToyCache, ToyModel, cases, make_prompts

from cutline.config import GenerationConfig
from cutline.errors import ConfigError
from cutline.generation import NewRequests, generate, generate_stream, make_search
from cutline.generation.generate import compact


def test_a_prompt_of_max_length_is_an_error() -> None:
    model, prompts = ToyModel(9), make_prompts([[0], [2, 3, 4, 5, 6]])
    for sample in (False, True):
        config = GenerationConfig(max_length=5, sample=sample)
        with pytest.raises(ConfigError, match=r"max_length 5 leaves no room .* has 5 tokens"):
            generate(model.step, model.start(prompts), prompts, config)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.one_of(cases(), cases(sample=True)), st.data())
def test_continuous_batching_gives_the_captions_of_one_batch(
    case: Case, data: st.DataObject
) -> None:
    """Each image is captioned once, for any number of slots and any number of new requests."""
    model, count = case.make_model(), len(case.prompts) * 3
    rows = [case.prompts[number % len(case.prompts)] for number in range(count)]
    seeds = list(range(count))
    prompts = make_prompts(rows)
    expected = generate(model.step, model.start(prompts), prompts, case.config, seeds)
    slots = data.draw(st.integers(1, count))
    max_prefill = data.draw(st.integers(1, slots))
    waiting = list(range(count))

    def next_requests(limit: int) -> NewRequests[ToyCache] | None:
        assert 1 <= limit <= max_prefill
        ids, waiting[:] = waiting[:limit], waiting[limit:]
        if not ids:
            return None
        prompts = make_prompts([rows[number] for number in ids], case.padding)
        return NewRequests(
            ids, model.start(prompts, ids), prompts, [seeds[number] for number in ids]
        )

    model.calls.clear()
    search = partial(make_search, case.config)
    results = list(generate_stream(model.step, next_requests, search, slots, max_prefill))
    assert sorted(number for number, _ in results) == list(range(count))
    assert all(len(images) <= slots for images, _ in model.calls)
    for number, captions in results:
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected[number]
        ]
        assert [caption.score for caption in captions] == pytest.approx(
            [caption.score for caption in expected[number]], rel=1e-5
        )


def test_a_free_slot_is_filled_at_once() -> None:
    """With two slots and images one at a time, both slots are in use until the images run out."""
    model, prompts, count = ToyModel(8, seed=3), make_prompts([[0]]), 6
    requests = iter(
        [NewRequests([number], model.start(prompts, [number]), prompts) for number in range(count)]
    )
    config = GenerationConfig(num_beams=2, max_length=12, min_length=0)
    search = partial(make_search, config)
    results = list(
        generate_stream(model.step, lambda limit: next(requests, None), search, 2, max_prefill=1)
    )
    assert [number for number, _ in results] != list(range(count))  # in the order of their ends
    batch_sizes = [len(images) for images, (_, beams, _) in model.calls if beams == 2]
    assert batch_sizes.count(1) <= 12  # only while the last image is captioned


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
    assert compact(torch.tensor(done).bool()).tolist() == order
