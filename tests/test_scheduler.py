"""`CaptionScheduler`: requests from many threads and event loops."""

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from random_captioner import draw_images, make_captioner

import cutline
from cutline.captioner import Captioner
from cutline.errors import ImageSizeError
from cutline.image import to_pixels

IMAGES = draw_images(6)
LONG: dict[str, Any] = {"num_beams": 1, "max_length": 48, "min_length": 48}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"num_beams": 5, "num_captions": 2},
    {"num_beams": 1},
    {"sample": True, "num_captions": 2},
]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture
def scheduler(captioner: Captioner) -> Iterator[cutline.CaptionScheduler]:
    with cutline.CaptionScheduler(captioner, batch_size=3) as scheduler:
        yield scheduler


def assert_equal(captions: Sequence[cutline.Caption], expected: Sequence[cutline.Caption]) -> None:
    assert [c.token_ids for c in captions] == [c.token_ids for c in expected]
    assert [c.score for c in captions] == pytest.approx([c.score for c in expected], abs=1e-5)


def test_each_request_gets_the_caption_of_its_image_and_settings(
    captioner: Captioner, scheduler: cutline.CaptionScheduler
) -> None:
    pairs = list(itertools.product(IMAGES, SETTINGS))
    requests = [scheduler.submit(image, "the", **settings) for image, settings in pairs]
    for request, (image, settings) in zip(requests, pairs, strict=True):
        [expected] = captioner.caption(image, "the", **settings)
        assert_equal(request.result(60).alternatives, expected.alternatives)


def test_a_request_has_an_id_and_is_done_when_it_has_a_result(
    scheduler: cutline.CaptionScheduler,
) -> None:
    named, numbered = scheduler.submit(IMAGES[0], id="x"), scheduler.submit(IMAGES[0])
    assert_equal([named.result(60)], [numbered.result(60)])
    assert (named.id, numbered.id, named.done(), named.cancel()) == ("x", 1, True, False)


def test_iteration_yields_text_and_then_the_caption(scheduler: cutline.CaptionScheduler) -> None:
    request = scheduler.submit(IMAGES[0], num_beams=1, min_length=20)
    *events, caption = request
    assert isinstance(caption, cutline.Caption)
    assert caption == request.result()
    assert "".join(event.text for event in events) == caption.text
    assert list(request)[-1] == caption  # again, after it is done
    assert "".join(event.text for event in list(request)[:-1]) == caption.text


def test_events_come_while_the_request_runs(scheduler: cutline.CaptionScheduler) -> None:
    request = scheduler.submit(IMAGES[0], **LONG)
    first = next(iter(request))
    assert isinstance(first, cutline.TextEvent)
    assert not request.done()
    assert len(first.token_ids) < 40
    request.result(60)


def test_await_and_async_for(captioner: Captioner, scheduler: cutline.CaptionScheduler) -> None:
    async def caption_all() -> None:
        requests = [scheduler.submit(image) for image in IMAGES]
        captions = await asyncio.gather(*requests)
        assert_equal(captions, captioner.caption(IMAGES))
        texts = []
        async for event in scheduler.submit(IMAGES[0], num_beams=4).events(draft=True):
            texts.append(event)
        assert isinstance(texts[-1], cutline.Caption)
        assert "".join(event.text for event in texts[:-1]) == texts[-1].text
        assert any(event.draft for event in texts[:-1])  # type: ignore[union-attr]
        assert [event async for event in requests[0]][-1] == captions[0]

    asyncio.run(caption_all())


def test_a_task_that_is_cancelled_cancels_its_request(scheduler: cutline.CaptionScheduler) -> None:
    async def give_up() -> cutline.CaptionRequest:
        request = scheduler.submit(IMAGES[0], **LONG)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(request, 1e-3)
        return request

    request = asyncio.run(give_up())
    with pytest.raises(cutline.RequestCancelledError):
        request.result(60)


def test_result_times_out_and_the_request_goes_on(scheduler: cutline.CaptionScheduler) -> None:
    request = scheduler.submit(IMAGES[0], **LONG)
    with pytest.raises(TimeoutError, match="request 0 is not done after 0 s"):
        request.result(0)
    assert request.result(60).text


def test_errors_stay_with_their_requests(
    scheduler: cutline.CaptionScheduler, tmp_path: Path
) -> None:
    missing = scheduler.submit(tmp_path / "gone.png")
    too_long = scheduler.submit(IMAGES[0], "a red circle", max_length=3, min_length=0)
    good = scheduler.submit(IMAGES[0])
    with pytest.raises(cutline.ImageError, match=r"gone\.png"):
        missing.result(60)
    with pytest.raises(cutline.ConfigError, match="leaves no room for a caption"):
        too_long.result(60)
    with pytest.raises(cutline.ConfigError, match="leaves no room for a caption"):
        list(too_long)
    assert good.result(60).text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"beams": 3}, "unknown argument `beams`"),
        ({"max_length": 60}, "above the model's 48 positions"),
        ({"deadline": 0}, "deadline must be a positive number of seconds, not 0"),
        ({"deadline": float("nan")}, "deadline must be a positive number of seconds, not nan"),
        ({"deadline": float("inf")}, "deadline must be a positive number of seconds, not inf"),
        ({"deadline": "1"}, "deadline must be a positive number of seconds, not 1"),
    ],
)
def test_invalid_settings_are_raised_by_submit(
    scheduler: cutline.CaptionScheduler, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(cutline.ConfigError, match=message):
        scheduler.submit(IMAGES[0], **settings)


def test_a_full_queue_is_an_error_at_once(captioner: Captioner) -> None:
    with cutline.CaptionScheduler(captioner, batch_size=1, max_queue=2) as scheduler:
        requests = [scheduler.submit(IMAGES[0], **LONG) for _ in range(3)]
        with pytest.raises(cutline.QueueFullError, match="2 requests wait already"):
            scheduler.submit(IMAGES[0])
        requests[1].cancel()
        with pytest.raises(cutline.RequestCancelledError):
            requests[1].result(60)
        requests.append(scheduler.submit(IMAGES[0]))
    assert [request.done() for request in requests] == [True] * 4


class SlowImage:
    """A lock that a decoder waits for; gives an image that is opened when it is released."""

    def __init__(self, path: Path) -> None:
        IMAGES[0].save(path)
        self.release = threading.Event()
        self.image = Image.open(path)
        load = self.image.load

        def load_late() -> Any:
            self.release.wait(60)
            return load()

        self.image.load = load_late  # type: ignore[method-assign]


def test_requests_whose_images_are_open_do_not_wait_for_others(
    scheduler: cutline.CaptionScheduler, tmp_path: Path
) -> None:
    slow = SlowImage(tmp_path / "slow.png")
    first, second = scheduler.submit(slow.image), scheduler.submit(IMAGES[1])
    assert second.result(60).text
    assert not first.done()
    slow.release.set()
    assert first.result(60).text


@pytest.mark.parametrize("other", [{}, LONG])
def test_a_deadline_also_ends_a_request_whose_image_is_not_open(
    scheduler: cutline.CaptionScheduler, tmp_path: Path, other: dict[str, Any]
) -> None:
    slow = SlowImage(tmp_path / "slow.png")
    late, cancelled = scheduler.submit(slow.image, deadline=0.05), scheduler.submit(slow.image)
    scheduler.submit(IMAGES[1], **other)
    with pytest.raises(cutline.DeadlineExceededError, match=r"within its deadline of 0\.05 s"):
        late.result(60)
    cancelled.cancel()
    with pytest.raises(cutline.RequestCancelledError):
        cancelled.result(60)
    slow.release.set()


def test_call_runs_a_function_on_the_thread_of_the_model(
    captioner: Captioner, scheduler: cutline.CaptionScheduler
) -> None:
    request = scheduler.submit(IMAGES[0], **LONG)
    names = [scheduler.call(lambda: threading.current_thread().name) for _ in range(2)]
    assert names == ["cutline-scheduler"] * 2
    assert not request.done()  # it ran between two steps
    assert scheduler.call(lambda: captioner.score(IMAGES[0], "two")) == captioner.score(
        IMAGES[0], "two"
    )
    assert scheduler.call(lambda: scheduler.call(lambda: 1)) == 1
    with pytest.raises(ZeroDivisionError):
        scheduler.call(lambda: 1 // 0)
    assert request.result(60).text


def test_leaving_the_block_waits_and_an_error_cancels(captioner: Captioner) -> None:
    with cutline.CaptionScheduler(captioner, batch_size=1) as scheduler:
        requests = [scheduler.submit(image) for image in IMAGES]
    assert all(request.result(0).text for request in requests)
    with pytest.raises(cutline.SchedulerClosedError, match="the scheduler is closed; make a new"):
        scheduler.submit(IMAGES[0])
    with pytest.raises(cutline.SchedulerClosedError):
        scheduler.call(lambda: 1)
    scheduler.close()  # again

    def interrupt() -> list[cutline.CaptionRequest]:
        with cutline.CaptionScheduler(captioner, batch_size=1) as scheduler:
            requests[:] = [scheduler.submit(image, **LONG) for image in IMAGES]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert all(request.done() for request in requests)
    with pytest.raises(cutline.RequestCancelledError):
        requests[-1].result()


def test_an_error_of_the_model_ends_all_requests_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = make_captioner()
    step, count = captioner.model.step, itertools.count()

    def fail_later(*arguments: Any) -> Any:
        if next(count) == 40:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return step(*arguments)

    captioner.model.step = fail_later  # type: ignore[method-assign]
    with cutline.CaptionScheduler(captioner, batch_size=1) as scheduler:
        requests = [scheduler.submit(image, **LONG) for image in IMAGES]
        for request in requests:
            with pytest.raises(RuntimeError, match="illegal memory access"):
                request.result(60)
        with pytest.raises(cutline.SchedulerClosedError, match=r"its model failed .CUDA error"):
            scheduler.submit(IMAGES[0])
        with pytest.raises(cutline.SchedulerClosedError):
            scheduler.call(lambda: 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"max_queue": -1}, "max_queue must be an integer and at least 0, not -1"),
    ],
)
def test_invalid_sizes_are_errors(
    captioner: Captioner, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(cutline.ConfigError, match=message):
        cutline.CaptionScheduler(captioner, **settings)


def test_a_scheduler_that_is_never_closed_does_not_keep_the_process() -> None:
    script = (
        "import cutline, sys; sys.path.insert(0, 'tests')\n"
        "from random_captioner import make_captioner, draw_images\n"
        "scheduler = cutline.CaptionScheduler(make_captioner())\n"
        "request = scheduler.submit(draw_images(1)[0], max_length=48, min_length=48)\n"
        "request.result()\n"
        "scheduler.submit(draw_images(1)[0], max_length=48, min_length=48)\n"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_cancelled_request_frees_its_place_among_the_images_to_open(
    captioner: Captioner, tmp_path: Path
) -> None:
    slow = SlowImage(tmp_path / "slow.png")
    with cutline.CaptionScheduler(captioner) as scheduler:
        for _ in range(8):
            scheduler.submit(slow.image)
        for _ in range(50):
            scheduler.submit(IMAGES[0]).cancel()
        deadline = time.monotonic() + 60
        while len(scheduler._opener._opening) > 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(scheduler._opener._opening) == 8
        slow.release.set()


def test_a_scheduler_can_be_closed_by_its_own_thread(captioner: Captioner) -> None:
    with cutline.CaptionScheduler(captioner) as scheduler:
        requests = [scheduler.submit(image) for image in IMAGES]
        scheduler.call(scheduler.close)
        assert all(request.result(60).text for request in requests)
        with pytest.raises(cutline.SchedulerClosedError):
            scheduler.submit(IMAGES[0])


def test_a_prompt_must_be_a_string(scheduler: cutline.CaptionScheduler) -> None:
    with pytest.raises(cutline.ConfigError, match="a prompt must be a string, not 3"):
        scheduler.submit(IMAGES[0], 3)  # type: ignore[arg-type]


def run_threads(count: int, task: Any) -> None:
    """Run task(number) in `count` threads that start together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        task(number)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(run, number) for number in range(count)]:
            future.result()


SHORT = {"max_length": 8, "min_length": 0}


def test_requests_from_eight_threads() -> None:
    stress("packed", num_requests=20)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "packed", "compiled", "openvino"])
def test_two_hundred_requests_from_each_of_eight_threads(engine: Any) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", exc_type=ImportError)
    stress(engine)


def stress(engine: Any, device: str = "cpu", num_requests: int = 200) -> None:
    """Compare captions with each alone: requests of 8 threads, and a quarter as many calls."""
    eager = make_captioner()
    pairs = list(itertools.product(IMAGES, SETTINGS))
    expected = [eager.caption(image, **SHORT, **settings)[0] for image, settings in pairs]
    captioner = Captioner(make_captioner().model, eager.tokenizer, device, "fp32", engine)

    def submit(number: int) -> None:
        requests = []
        for turn in range(num_requests):
            index = (number * 7 + turn) % len(pairs)
            image, settings = pairs[index]
            requests.append((index, scheduler.submit(image, **SHORT, **settings)))
            if turn % 20 == 19:
                cancelled = scheduler.submit(image, **LONG)
                cancelled.cancel()
                for index, request in requests[-20:]:
                    assert request.result(60).token_ids == expected[index].token_ids

    with cutline.CaptionScheduler(captioner, batch_size=8, max_queue=2000) as scheduler:
        run_threads(8, submit)

    def caption(number: int) -> None:
        for turn in range(num_requests // 4):
            index = (number * 5 + turn) % len(pairs)
            image, settings = pairs[index]
            [result] = captioner.caption(image, **SHORT, **settings)
            assert result.token_ids == expected[index].token_ids

    run_threads(8, caption)


@pytest.mark.parametrize("num_rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_threads_that_caption_do_not_disturb_each_other(
    captioner: Captioner, num_rounds: int
) -> None:
    expected = captioner.caption(IMAGES)

    def caption(number: int) -> None:
        for _ in range(num_rounds):
            captions = captioner.caption(IMAGES[number:] + IMAGES[:number], batch_size=3)
            assert_equal(captions, expected[number:] + expected[:number])
            assert captioner.score(IMAGES[number], "two") == scores[number]

    scores = [captioner.score(image, "two") for image in IMAGES]
    run_threads(6, caption)


def test_waiting_takes_no_time_of_the_processor(captioner: Captioner) -> None:
    with cutline.CaptionScheduler(captioner) as scheduler:
        scheduler.submit(IMAGES[0]).result(60)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.25


def test_the_model_runs_without_gradients(scheduler: cutline.CaptionScheduler) -> None:
    assert scheduler.call(torch.is_inference_mode_enabled)


def test_a_task_gets_the_pixels_of_its_image(
    captioner: Captioner, scheduler: cutline.CaptionScheduler
) -> None:
    image = draw_images(1)[0]
    expected = to_pixels(image, captioner.config.vision.image_size)
    assert torch.equal(scheduler.submit_task(image, torch.clone).result(), expected)
    assert scheduler.submit_task(image, torch.clone, image_size=8).result().shape == (3, 8, 8)


def test_tasks_run_with_captions_on_the_thread_of_the_model(
    captioner: Captioner, scheduler: cutline.CaptionScheduler
) -> None:
    images = draw_images(4)
    requests = [scheduler.submit(image) for image in images]
    tasks = [
        scheduler.submit_task(
            image, lambda _: (threading.current_thread().name, torch.is_grad_enabled())
        )
        for image in images
    ]
    assert {task.result() for task in tasks} == {("cutline-scheduler", True)}
    assert_equal([each.result() for each in requests], captioner.caption(images))


def test_errors_of_a_task_are_its_own(scheduler: cutline.CaptionScheduler) -> None:
    image = draw_images(1)[0]

    def fail(pixels: torch.Tensor) -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        scheduler.submit_task(image, fail).result()
    with pytest.raises(cutline.ImageError):
        scheduler.submit_task(b"", fail).result()
    assert scheduler.submit(image).result().text


def test_a_scheduler_that_is_warm_can_tell_how_long_requests_will_wait(
    captioner: Captioner,
) -> None:
    image, started, release = draw_images(1)[0], threading.Event(), threading.Event()

    def block(pixels: torch.Tensor) -> bool:
        started.set()
        return release.wait(10)

    with cutline.CaptionScheduler(captioner) as scheduler:
        scheduler.warm_up()
        assert scheduler.estimate_seconds() == 0  # there is nothing to wait for
        scheduler.submit_task(image, block)
        assert started.wait(10)
        assert 0 < scheduler.estimate_seconds() < scheduler.estimate_seconds(3)
        release.set()


def test_tasks_fill_the_queue_and_can_be_cancelled(captioner: Captioner) -> None:
    image, started, release = draw_images(1)[0], threading.Event(), threading.Event()

    def block(pixels: torch.Tensor) -> bool:
        started.set()
        return release.wait(10)

    with cutline.CaptionScheduler(captioner, batch_size=1, max_queue=2) as scheduler:
        first = scheduler.submit_task(image, block)
        assert started.wait(10)
        late = scheduler.submit_task(image, torch.clone, deadline=1e-6)
        second = scheduler.submit_task(image, torch.clone)
        with pytest.raises(cutline.QueueFullError):
            scheduler.submit_task(image, torch.clone)
        second.cancel()
        release.set()
        assert first.result()
        with pytest.raises(cutline.RequestCancelledError):
            second.result()
        with pytest.raises(cutline.DeadlineExceededError):
            late.result()


def test_a_task_whose_time_is_over_does_not_wait_for_those_before(captioner: Captioner) -> None:
    image, started, releases = draw_images(1)[0], threading.Event(), threading.Semaphore(0)

    def block(pixels: torch.Tensor) -> bool:
        started.set()
        return releases.acquire(timeout=10)

    with cutline.CaptionScheduler(captioner) as scheduler:
        blocks = [scheduler.submit_task(image, block) for _ in range(2)]
        late = scheduler.submit_task(image, torch.clone, deadline=0.2)
        assert started.wait(10)
        time.sleep(0.2)
        releases.release()
        with pytest.raises(cutline.DeadlineExceededError):
            late.result(timeout=5)
        assert sum(task.done() for task in blocks) == 1  # in whichever order they were read
        releases.release()


def test_large_images_are_refused_before_they_are_decoded(captioner: Captioner) -> None:
    image = draw_images(1)[0]
    with (
        cutline.CaptionScheduler(captioner, max_pixels=100) as scheduler,
        pytest.raises(ImageSizeError, match="more than the 100 allowed"),
    ):
        scheduler.submit(image).result()
    with pytest.raises(cutline.ConfigError, match="max_pixels"):
        cutline.CaptionScheduler(captioner, max_pixels=0)
