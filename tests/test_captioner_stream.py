"""`Captioner.stream`: live input, order, errors of the source, memory, threads and processes."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import find_errors_in_fork, run_code
from PIL import Image
from random_captioner import draw_images, make_captioner

import cutline
from cutline.captioner import Captioner

IMAGES = draw_images(8)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


def token_ids(results: Any) -> list[tuple[int, ...]]:
    return [result.token_ids for result in results]


class Camera:
    """An iterable whose images come when they are released."""

    def __init__(self) -> None:
        self.released, self.ended = threading.Semaphore(0), threading.Event()

    def __iter__(self) -> Iterator[Image.Image]:
        for image in IMAGES:
            assert self.released.acquire(timeout=60)
            if self.ended.is_set():
                return
            yield image


def test_an_image_is_captioned_before_the_next_one_comes(captioner: Captioner) -> None:
    camera, expected = Camera(), captioner.caption(IMAGES)
    results = captioner.stream(camera)
    for number in range(3):
        camera.released.release()
        result = next(results)
        assert isinstance(result, cutline.Caption)
        assert (result.token_ids, result.index) == (expected[number].token_ids, number)
    results.close()  # type: ignore[attr-defined]  # while the camera waits
    camera.ended.set()
    camera.released.release()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_at_most_two_batches_are_taken_beyond_what_was_returned(
    captioner: Captioner, batch_size: int, ordered: bool
) -> None:
    taken, returned, most = 0, 0, 0

    def count_images() -> Iterator[Image.Image]:
        nonlocal taken, most
        for number in range(30):
            taken += 1
            most = max(most, taken - returned)
            yield IMAGES[number % 8]

    for _ in captioner.stream(count_images(), batch_size=batch_size, ordered=ordered, num_beams=1):
        assert taken - returned <= 2 * batch_size
        returned += 1
    assert returned == 30
    assert batch_size < most <= 2 * batch_size


def test_the_first_error_of_many_is_returned_at_once(captioner: Captioner) -> None:
    taken = 0

    def missing_files() -> Iterator[str]:
        nonlocal taken
        for number in range(3000):
            taken += 1
            yield f"missing-{number}.png"

    results = captioner.stream(missing_files(), batch_size=4)
    first = next(results)
    assert isinstance(first, cutline.ImageError)
    assert "missing-0.png" in str(first)
    assert taken <= 9
    results.close()  # type: ignore[attr-defined]


def test_results_come_as_they_are_done(captioner: Captioner, tmp_path: Path) -> None:
    """Unordered results have the numbers of their images."""
    inputs = [*IMAGES[:3], tmp_path / "gone.png", *IMAGES[3:]]
    expected = dict(enumerate(captioner.stream(inputs, batch_size=1)))
    results = list(captioner.stream(inputs, batch_size=3, ordered=False))
    indices = [result.index for result in results]
    assert sorted(indices) == list(range(9))  # type: ignore[type-var]
    assert indices != list(range(9))
    for result in results:
        assert result.index is not None
        other = expected[result.index]
        if isinstance(result, cutline.Caption) and isinstance(other, cutline.Caption):
            assert result.token_ids == other.token_ids
            assert all(each.index == result.index for each in result.alternatives)
        else:
            assert str(result) == str(other)


def test_what_was_taken_is_captioned_before_the_error_of_the_source(captioner: Captioner) -> None:
    def broken_source() -> Iterator[Image.Image]:
        yield from IMAGES[:5]
        raise OSError("the network is down")

    results = captioner.stream(broken_source(), batch_size=3)
    captions = [next(results) for _ in range(5)]
    with pytest.raises(OSError, match="the network is down"):
        next(results)
    assert token_ids(captions) == token_ids(captioner.caption(IMAGES[:5]))


def test_a_long_prompt_is_the_error_of_its_image(captioner: Captioner) -> None:
    prompts = ["", "a red green blue circle star above", "the", ""]
    settings: dict[str, Any] = {"max_length": 6, "min_length": 0}
    results = list(captioner.stream(IMAGES[:4], prompts, **settings))
    assert [isinstance(result, cutline.ConfigError) for result in results] == [0, 1, 0, 0]
    with pytest.raises(cutline.ConfigError, match=r"image 1: max_length 6 leaves no room"):
        captioner.caption(IMAGES[:4], prompts, **settings)
    with pytest.raises(cutline.ConfigError, match=r"^max_length 6 leaves no room"):
        captioner.stream(IMAGES[:4], prompts[1], **settings)  # at once


def test_damaged_weights_are_an_error_of_each_image() -> None:
    captioner = make_captioner()
    with torch.no_grad():
        captioner.model.text.lm_head.bias[3] = torch.nan
    for settings in ({}, {"num_beams": 1}, {"sample": True}):
        [result] = captioner.stream(IMAGES[:1], **settings)  # type: ignore[arg-type]
        assert isinstance(result, cutline.GenerationError)
    with pytest.raises(cutline.GenerationError, match=r"image 0: there is no caption, .*NaN"):
        captioner.caption(IMAGES[0])


def test_seeds_per_image(captioner: Captioner) -> None:
    same = [IMAGES[0]] * 4
    settings: dict[str, Any] = {"sample": True, "min_length": 15}
    captions = captioner.caption(same, seeds=[0, 1, 2, 1], **settings)
    assert captions[1].token_ids == captions[3].token_ids
    assert len(set(token_ids(captions))) == 3
    assert len(set(token_ids(captioner.caption(same, seed=0, **settings)))) == 1
    assert captions[2].token_ids == captioner.caption(same[0], seed=2, **settings)[0].token_ids
    assert token_ids(captioner.stream(iter(same), seeds=iter([0, 1, 2, 1]), **settings)) == (
        token_ids(captions)
    )
    with pytest.raises(cutline.ConfigError, match="there are 2 seeds for 4 images"):
        captioner.caption(same, seeds=[1, 2], **settings)
    with pytest.raises(cutline.ConfigError, match="fewer seeds than images"):
        list(captioner.stream(iter(same), seeds=[1, 2], **settings))
    with pytest.raises(cutline.ConfigError, match="seeds are for sampling only"):
        captioner.caption(same, seeds=[1, 2, 3, 4])


def test_bf16_is_bit_identical_from_call_to_call() -> None:
    captioner = Captioner(make_captioner().model, make_captioner().tokenizer, "cpu", "bf16")
    settings: dict[str, Any] = {"batch_size": 3, "min_length": 12, "max_length": 19}
    expected = captioner.caption(IMAGES, **settings)
    # The first call after it uses the same cache again, the others a new one.
    others = (settings, {}, {"num_beams": 5, "max_length": 31}, {"num_beams": 1, "batch_size": 2})
    for other in others:
        captioner.caption(IMAGES[:3], **other)  # type: ignore[arg-type]
        captions = captioner.caption(IMAGES, **settings)
        assert [(c.token_ids, c.score) for c in captions] == [
            (c.token_ids, c.score) for c in expected
        ]


def test_a_captioner_says_that_it_does_not_work_after_a_fork(captioner: Captioner) -> None:
    messages = find_errors_in_fork(
        [
            lambda: captioner.caption(IMAGES[0]),
            lambda: captioner.score(IMAGES[0], "two"),
            lambda: cutline.CaptionScheduler(captioner),
        ]
    )
    assert len(messages) == 3
    assert all("loaded before the process was forked" in each for each in messages)
    assert captioner.caption(IMAGES[0])


def test_a_step_that_runs_out_of_memory_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    captioner = make_captioner()
    expected = captioner.caption(IMAGES)
    step = captioner.model.step

    def fail_if_large(input_ids: torch.Tensor, cache: Any) -> torch.Tensor:
        logits = step(input_ids, cache)
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return logits

    monkeypatch.setattr(captioner.model, "step", fail_if_large)
    with caplog.at_level(logging.WARNING):
        captions = captioner.caption(IMAGES)
    assert token_ids(captions) == token_ids(expected)
    assert len(caplog.records) == 1


LIMITED = """
import logging, resource, sys
logging.basicConfig(format="%(message)s", stream=sys.stdout)
from random_captioner import draw_images, make_captioner

captioner, images = make_captioner(), draw_images(4)
expected = captioner.caption(images, batch_size=1)  # also starts all threads
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20, resource.RLIM_INFINITY))
results = list(captioner.stream(images, batch_size=200_000))
assert [caption.token_ids for caption in results] == [c.token_ids for c in expected]
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_a_process_with_little_memory_captions_in_smaller_batches() -> None:
    """A cache for 200,000 images of the smallest model needs some 10 GB."""
    result = run_code(LIMITED)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"out of memory: captioning 100000 at a time instead of")
    assert len(result.stdout.splitlines()) == 1


def test_a_small_model_runs_with_one_thread_and_restores_the_number() -> None:
    captioner = make_captioner()
    before, seen = torch.get_num_threads(), []
    step = captioner.model.step
    captioner.model.step = lambda *arguments: (  # type: ignore[method-assign]
        seen.append(torch.get_num_threads()),
        step(*arguments),
    )[1]
    torch.set_num_threads(3)
    try:
        for _ in captioner.stream(IMAGES, batch_size=2):
            assert torch.get_num_threads() == 3
        captioner.score(IMAGES[0], "two")
        with cutline.CaptionScheduler(captioner) as scheduler:
            scheduler.submit(IMAGES[0]).result(60)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
