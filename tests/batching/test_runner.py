"""A batch of requests with their own settings: any mix gives each the caption it gets alone."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import cutline
from cutline.batching import BatchRunner, CaptionRequest, TextEvent
from cutline.captioner import Captioner
from cutline.config import GenerationConfig, GenerationKwargs
from cutline.generation import Progress
from cutline.image import to_pixels
from cutline.model.cache import TextCache

GOLDEN = Path(__file__).parents[1] / "golden" / "salesforce-micro"
BAD_WORDS: list[tuple[str, ...]] = [(), (), ("star", "a red"), ("circle", "Blue", "a")]
PROMPTS = ("a picture of ", "", "a photo of a red ")


@cache
def load_micro(engine: str = "packed") -> Captioner:
    path, config = GOLDEN / "checkpoint.pth", GOLDEN / "config.json"
    return cutline.load(path, "cpu", "fp32", engine=engine, config=config)  # type: ignore[arg-type]


@cache
def read_images() -> tuple[Image.Image, ...]:
    return tuple(Image.open(path).convert("RGB") for path in sorted(GOLDEN.glob("unseen/*.png")))


@st.composite
def configs(draw: st.DrawFn) -> GenerationConfig:
    """Draw settings that change every field."""
    sample = draw(st.booleans())
    max_length, num_beams = draw(st.integers(9, 24)), draw(st.integers(1, 6))
    return GenerationConfig(
        num_beams=num_beams,
        max_length=max_length,
        min_length=draw(st.integers(0, max_length)),
        repetition_penalty=draw(st.sampled_from([1.0, 0.8, 1.3, 2.0])),
        length_penalty=draw(st.sampled_from([1.0, 0.0, -1.0, 2.0])),
        no_repeat_ngram_size=draw(st.sampled_from([0, 0, 1, 2, 3])),
        bad_words=draw(st.sampled_from(BAD_WORDS)),
        num_captions=draw(st.integers(1, 4 if sample else num_beams)),
        beam_scoring=draw(st.sampled_from(["blip", "huggingface"])),
        sample=sample,
        temperature=draw(st.sampled_from([1.0, 0.5, 2.0])),
        top_k=draw(st.sampled_from([50, 0, 3])),
        top_p=draw(st.sampled_from([1.0, 0.9, 0.5])),
        seed=draw(st.integers(0, 3)),
        token_log_probs=draw(st.booleans()),
    )


def make_request(image: int, prompt: str, config: GenerationConfig) -> CaptionRequest:
    captioner = load_micro()
    request = CaptionRequest(image, config, captioner.tokenizer.encode_prompt(prompt))
    request.pixels = to_pixels(read_images()[image], captioner.config.vision.image_size)
    return request


def make_runner(slots: int = 4) -> BatchRunner:
    return load_micro().make_runner(slots)


@torch.inference_mode()
def run_alone(image: int, prompt: str, config: GenerationConfig) -> cutline.Caption:
    runner, request = make_runner(1), make_request(image, prompt, config)
    waiting = [request]
    while waiting or len(runner):
        runner.run_step(waiting)
    return request.result(0)


def assert_equal(caption: cutline.Caption, expected: cutline.Caption) -> None:
    pairs = zip(caption.alternatives, expected.alternatives, strict=True)
    assert all(c.token_ids == e.token_ids and c.text == e.text for c, e in pairs)
    assert caption.score == pytest.approx(expected.score, rel=1e-4, abs=1e-5)
    for c, e in zip(caption.alternatives, expected.alternatives, strict=True):
        assert c.token_log_probs == pytest.approx(e.token_log_probs, abs=1e-4)


def collect_text(request: CaptionRequest) -> dict[int, str]:
    """Return the joined text of each candidate."""
    texts: dict[int, str] = {}
    for event in request.events(draft=True):
        if isinstance(event, TextEvent):
            texts[event.candidate] = texts.get(event.candidate, "") + event.text
    return texts


@pytest.mark.slow
@torch.inference_mode()
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.sampled_from(PROMPTS), configs()), min_size=2, max_size=6
    ),
    st.integers(0, 2**32),
)
def test_any_mix_of_requests_gives_the_captions_of_each_alone(
    drawn: list[tuple[int, str, GenerationConfig]], seed: int
) -> None:
    """Requests join at any step, some are cancelled, some fail; events join to the captions."""
    random = Random(seed)
    runner = make_runner(random.randint(1, 6))
    requests = [make_request(*arguments) for arguments in drawn]
    for request in requests:
        if random.random() < 0.5:
            request.events(draft=random.random() < 0.5)
    fails, cancelled = random.randint(-6, 5), random.randint(-6, 5)
    if 0 <= fails < len(requests):
        broken = requests[fails].pixels
        assert broken is not None
        requests[fails].pixels = torch.full_like(broken, 255)
    coming, waiting = list(requests), list[CaptionRequest]()
    with break_white_images():
        while coming or waiting or len(runner):
            count = random.randint(0, 2)
            waiting += coming[:count]
            del coming[:count]
            if 0 <= cancelled < len(requests) and random.random() < 0.1:
                requests[cancelled].cancel()
            runner.run_step(waiting)
    for number, (request, arguments) in enumerate(zip(requests, drawn, strict=True)):
        if number == fails and number != cancelled:
            with pytest.raises(cutline.GenerationError, match="NaN"):
                request.result(0)
        elif number not in (fails, cancelled):
            caption = request.result(0)
            assert_equal(caption, run_alone(*arguments))
            texts = {each.candidate: each.text for each in caption.alternatives}
            joined = collect_text(request)
            assert {number: joined.get(number, "") for number in texts} == texts


@contextmanager
def break_white_images() -> Iterator[None]:
    """Let the encoder return NaN for images that are entirely white."""

    def hook(module: object, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        white = (inputs[0] > 1.9).flatten(1).all(1)
        return output.masked_fill(white[:, None, None], torch.nan)

    handle = load_micro().model.vision.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


GREEDY = GenerationConfig(num_beams=1, max_length=20, min_length=20)


def run_steps(runner: BatchRunner, waiting: list[CaptionRequest], count: int) -> None:
    with torch.inference_mode():
        for _ in range(count):
            runner.run_step(waiting)


def test_bad_words_hold_for_their_own_request_only() -> None:
    """Whatever the search, and whatever the case of the word; the prompt may contain it."""
    searches: list[GenerationKwargs] = [
        {},
        {"num_beams": 1},
        {"sample": True, "num_captions": 4, "temperature": 2.0},
        {"num_beams": 6, "num_captions": 6, "beam_scoring": "huggingface"},
    ]
    configs = [
        GenerationConfig(bad_words=bad_words, **settings)
        for settings in searches
        for bad_words in ((), ("Star",), ("green star", "circle", "a  red"))
    ]
    requests = [make_request(0, "a green star and ", config) for config in configs]
    run_steps(make_runner(6), list(requests), 80)
    texts = [[each.text for each in request.result(0).alternatives] for request in requests]
    for free, no_star, no_phrases in zip(texts[::3], texts[1::3], texts[2::3], strict=True):
        assert any("star" in text.split() for text in free)
        assert all("star" not in text.split() for text in no_star)
        assert not any(re.search(r"green star|\bcircle|\ba red", text) for text in no_phrases)


def is_running(runner: BatchRunner, request: CaptionRequest) -> bool:
    return request in runner._running


def test_a_request_joins_at_the_next_step_and_settings_do_not_matter() -> None:
    runner = make_runner(4)
    first, second = make_request(0, "", GREEDY), make_request(1, "", GenerationConfig(num_beams=5))
    run_steps(runner, [first], 3)
    waiting = [second]
    run_steps(runner, waiting, 1)
    assert (is_running(runner, first), is_running(runner, second), waiting) == (True, True, [])


def test_a_slot_is_free_at_the_step_after_its_request_is_cancelled() -> None:
    runner = make_runner(1)
    first, second = make_request(0, "", GREEDY), make_request(1, "", GREEDY)
    waiting = [first, second]
    run_steps(runner, waiting, 3)
    assert waiting == [second]
    first.cancel()
    run_steps(runner, waiting, 1)
    assert first.done()
    assert is_running(runner, second)
    with pytest.raises(cutline.RequestCancelledError, match="request 0 was cancelled"):
        first.result()


def test_waiting_requests_are_encoded_together_but_none_waits_long() -> None:
    """With one free slot and two that wait, the first starts after at most three steps."""
    runner, long = make_runner(3), GenerationConfig(num_beams=1, max_length=40, min_length=40)
    short = GenerationConfig(num_beams=1, max_length=6, min_length=0)
    waiting = [make_request(0, "", long), make_request(1, "", long), make_request(2, "", short)]
    while len(waiting) or len(runner) == 3 or not len(runner):
        run_steps(runner, waiting, 1)
    waiting = [make_request(3, "", long), make_request(4, "", long)]
    waits = 0
    while len(waiting) == 2:
        run_steps(runner, waiting, 1)
        waits += 1
    assert waits == 4
    assert len(runner) == 3


def test_requests_start_in_order_and_one_with_many_beams_does_not_slow_the_others() -> None:
    runner, wide = make_runner(4), GenerationConfig(num_beams=40, max_length=20, min_length=20)
    requests = [make_request(n, "", wide if n == 2 else GREEDY) for n in range(4)]
    waiting = list(requests)
    run_steps(runner, waiting, 1)
    assert waiting == requests[2:]  # the wide one would pad 3 * 40 rows for 42 beams
    while waiting[:1] == [requests[2]]:
        run_steps(runner, waiting, 1)
    assert requests[0].done()
    assert requests[1].done()
    while not all(request.done() for request in requests):
        run_steps(runner, waiting, 1)
    for number, request in enumerate(requests):
        assert_equal(request.result(), run_alone(number, "", request.config))


def test_a_deadline_ends_a_request() -> None:
    runner = make_runner(2)
    slow = CaptionRequest("slow", GREEDY, [109], deadline=1e-4)
    slow.pixels = make_request(0, "", GREEDY).pixels
    other = make_request(1, "", GREEDY)
    time.sleep(0.01)
    waiting = [slow, other]
    run_steps(runner, waiting, 25)
    with pytest.raises(cutline.DeadlineExceededError, match=r"slow was not done .* of 0.0001 s"):
        slow.result()
    assert_equal(other.result(), run_alone(1, "", GREEDY))


def test_nan_of_one_request_does_not_reach_a_later_one_in_the_same_slot() -> None:
    config = GenerationConfig(num_beams=3, max_length=16, min_length=16)
    runner = make_runner(1)
    broken, later = make_request(0, "", config), make_request(1, "", config)
    assert broken.pixels is not None
    broken.pixels = torch.full_like(broken.pixels, 255)
    waiting = [broken, later]
    with break_white_images():
        run_steps(runner, waiting, 40)
    with pytest.raises(cutline.GenerationError, match=r"request 0: there is no caption"):
        broken.result()
    assert_equal(later.result(), run_alone(1, "", config))


def test_settled_text_comes_as_it_is_generated() -> None:
    """Greedy search settles a token at each step; an event has each token once."""
    runner, request = make_runner(1), make_request(0, "", GREEDY)
    request.events()
    waiting, counts = [request], []
    while not request.done():
        run_steps(runner, waiting, 1)
        counts.append(len(request._events))
    assert counts[:10] == list(range(1, 11))  # the prompt and the first step are one
    *events, caption = request.events()
    assert isinstance(caption, cutline.Caption)
    token_ids = [token for event in events for token in event.token_ids]
    assert tuple(token_ids) == caption.token_ids
    assert "".join(event.text for event in events) == caption.text
    assert all(not event.draft for event in events)  # type: ignore[union-attr]


def test_drafts_of_a_beam_search_continue_the_settled_text() -> None:
    config = GenerationConfig(num_beams=4, num_captions=2, max_length=20, min_length=14)
    runner, request = make_runner(1), make_request(3, "", config)
    request.events(draft=True)
    waiting = [request]
    while not request.done():
        run_steps(runner, waiting, 1)
    *events, caption = request.events(draft=True)
    drafts = [event.draft for event in events if isinstance(event, TextEvent) and event.draft]
    assert len(drafts) >= 10
    assert len(set(drafts)) > 5
    assert isinstance(caption, cutline.Caption)
    assert {each.candidate for each in caption.alternatives} == {0, 1}


class FailingStep:
    """A step that runs out of memory with more than `limit` images, or at some calls."""

    def __init__(self, limit: int) -> None:
        self.step, self.limit, self.num_failures = load_micro().model.step, limit, 0

    def __call__(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        logits = self.step(input_ids, cache)  # which has changed the cache when it fails
        if len(input_ids) > self.limit:
            self.num_failures += 1
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 20.00 MiB")
        return logits


def test_out_of_memory_halves_the_batch_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configs = [GenerationConfig(), GREEDY, GenerationConfig(sample=True, num_captions=2)]
    requests = [make_request(number, "", configs[number % 3]) for number in range(10)]
    requests[3].events()
    expected = [run_alone(number, "", configs[number % 3]) for number in range(10)]
    step = FailingStep(limit=2)
    monkeypatch.setattr(load_micro().model, "step", step)
    runner, waiting = make_runner(8), list(requests)
    with caplog.at_level(logging.WARNING):
        while waiting or len(runner):
            run_steps(runner, waiting, 1)
    assert runner.slots == 2
    assert step.num_failures == 2
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: captioning 4 at a time instead of 8; choose a smaller batch_size to avoid "
        "the delay"
    ]
    for request, caption in zip(requests, expected, strict=True):
        assert_equal(request.result(), caption)


def test_a_request_that_does_not_fit_alone_fails_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = GenerationConfig(num_beams=7)
    requests = [make_request(0, "", wide), make_request(1, "", GREEDY)]
    step = load_micro().model.step

    def fail_if_wide(input_ids: Tensor, cache: TextCache) -> Tensor:
        if input_ids.shape[1] == 7:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: no memory")
        return step(input_ids, cache)

    monkeypatch.setattr(load_micro().model, "step", fail_if_wide)
    runner, waiting = make_runner(2), list(requests)
    while waiting or len(runner):
        run_steps(runner, waiting, 1)
    with pytest.raises(cutline.GenerationError, match=r"request 0: .* not enough memory .* one"):
        requests[0].result()
    assert requests[1].result().text


def test_other_errors_of_the_model_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(input_ids: Tensor, cache: TextCache) -> Tensor:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(load_micro().model, "step", fail)
    with pytest.raises(RuntimeError, match="device-side assert"):
        run_steps(make_runner(2), [make_request(0, "", GREEDY)], 1)


class FailOnce:
    """Runs out of memory at one call of a function, before or after it has done its work."""

    def __init__(self, function: Callable[..., Any], call: int, after: bool) -> None:
        self.function, self.call, self.after, self.count = function, call, after, 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.count += 1
        if self.count == self.call and not self.after:
            raise torch.OutOfMemoryError
        result = self.function(*arguments, **keywords)
        if self.count == self.call:
            raise torch.OutOfMemoryError
        return result


@settings(max_examples=25, deadline=None, derandomize=True)
@pytest.mark.slow
@given(
    st.sampled_from(["step", "prefill_images", "extend", "select", "resize", "reorder"]),
    st.integers(1, 12),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_memory_may_run_out_anywhere(name: str, call: int, after: bool, seed: int) -> None:
    """Every request is returned once, with its caption, or as cancelled."""
    random = Random(seed)
    settings = [GenerationConfig(), GREEDY, GenerationConfig(sample=True, num_captions=2)]
    long_prompt = "a photo of a red circle above a"
    requests = [
        make_request(n, random.choice(["", long_prompt]), random.choice(settings)) for n in range(5)
    ]
    for request in requests:
        if random.random() < 0.5:
            request.events(draft=True)
    arguments = [(request.id, request.prompt_ids, request.config) for request in requests]
    runner, waiting, done = make_runner(random.randint(2, 4)), list(requests), []
    cancelled = requests[random.randrange(5)]
    owner = load_micro().model if name in ("step", "prefill_images") else TextCache
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        failing = FailOnce(getattr(owner, name), call, after)
        patch.setattr(owner, name, failing if owner is not TextCache else as_method(failing))
        for _ in range(200):
            done += runner.run_step(waiting)
            if random.random() < 0.1:
                cancelled.cancel()
    assert sorted(request.id for request in done) == list(range(5))
    for request, (image, prompt_ids, config) in zip(requests, arguments, strict=True):
        if isinstance(request.outcome, cutline.RequestCancelledError):
            assert request is cancelled
            continue
        alone = CaptionRequest(image, config, prompt_ids)
        alone.pixels = make_request(image, "", config).pixels
        run_steps(make_runner(1), [alone], 60)
        caption = request.result(0)
        assert_equal(caption, alone.result(0))
        texts = {each.candidate: each.text for each in caption.alternatives}
        joined = collect_text(request)
        assert {number: joined.get(number, "") for number in texts} == texts


def as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is bound when it is an attribute of a class."""
    return lambda *arguments, **keywords: function(*arguments, **keywords)


def test_one_request_that_never_fits_does_not_shrink_the_batch_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = load_micro().model.step

    def fail_if_wide(input_ids: Tensor, cache: TextCache) -> Tensor:
        if input_ids.shape[1] >= 60:
            raise torch.OutOfMemoryError("out of memory")
        return step(input_ids, cache)

    monkeypatch.setattr(load_micro().model, "step", fail_if_wide)
    wide = GenerationConfig(num_beams=60)
    requests = [make_request(n, "", wide if n == 3 else GREEDY) for n in range(8)]
    runner, waiting = make_runner(4), list(requests)
    run_steps(runner, waiting, 120)
    assert runner.slots == 4
    with pytest.raises(cutline.GenerationError, match="not enough memory"):
        requests[3].result(0)
    assert all(request.result(0) for request in requests if request.config is GREEDY)


def test_a_request_that_changes_when_it_is_started_again_fails() -> None:
    request = make_request(0, "", GREEDY)
    tokenizer = load_micro().tokenizer
    first, second = (tuple(tokenizer.encode_prompt(text)[1:]) for text in ("a red", "a blue star"))
    request.report(Progress([first], ()), tokenizer)
    request.report(Progress([second[:1]], ()), tokenizer)  # catching up
    assert len(request._events) == 1
    request.report(Progress([second], ()), tokenizer)
    request.finish(cutline.Caption("a blue star", 0.0, second))
    with pytest.raises(cutline.GenerationError, match="the caption changed"):
        request.result(0)
