"""`CaptionScheduler`: requests from any thread, and one thread that owns the model."""

import atexit
import itertools
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import torch
from PIL import Image
from torch import Tensor

from cutline.batching import Caption, CaptionRequest, ImageTask, Request
from cutline.batching.inputs import check_prompt, to_processor_list
from cutline.batching.opener import ImageOpener, Opened
from cutline.batching.pace import Pace
from cutline.captioner import Captioner
from cutline.config import GenerationKwargs, InferenceConfig
from cutline.config.validation import require
from cutline.errors import (
    ConfigError,
    GenerationError,
    QueueFullError,
    SchedulerClosedError,
)
from cutline.generation import LogitsProcessor, check_prompt_length
from cutline.image import MAX_PIXELS, ImageSource

SUBMIT_ARGUMENTS = ("prompt", "id", "deadline", "logits_processor")
"""arguments of `CaptionScheduler.submit` besides the image and the fields of `GenerationConfig`"""
MAX_WAIT = 3600.0  # seconds; the operating system has a limit

T = TypeVar("T")
R = TypeVar("R", bound=Request[Any])
Message = Callable[[], None]
"""what the thread of the model runs between two steps"""


class CaptionScheduler:
    """Captions requests with settings of their own, from any number of threads, in one batch.

    Requests start in the order in which they were submitted, as soon as their images are opened and
    a slot is free, while others run.

    Use it as a context manager: on exit it waits for all requests or, after an error, cancels them.
    """

    def __init__(
        self,
        captioner: Captioner,
        batch_size: int = 8,
        max_queue: int = 256,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Start the thread that owns the model.

        Args:
            captioner: The captioner.
            batch_size: The largest number of requests that run together.
            max_queue: The largest number of further requests, which wait for a slot.
            max_pixels: Limit on width times height of an image, which is checked before decoding.

        Raises:
            ConfigError: A setting is invalid.
        """
        InferenceConfig(batch_size=batch_size)  # checks it
        is_count = isinstance(max_queue, int) and max_queue >= 0
        require(is_count, f"max_queue must be an integer and at least 0, not {max_queue}")
        is_count = isinstance(max_pixels, int) and max_pixels >= 1
        require(is_count, f"max_pixels must be an integer and at least 1, not {max_pixels}")
        captioner.check_process()
        self._captioner, self._limit, self._max_queue = captioner, batch_size + max_queue, max_queue
        self._runner = captioner.make_runner(batch_size)
        self._opener = ImageOpener(max_pixels)
        self._pace = Pace(2 * batch_size)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # guards the attributes below
        self._requests: dict[Request[Any], int] = {}  # those not done, with their numbers
        self._closed = False
        self._error: BaseException | None = None
        # Only the thread of the model uses these, which are open and wait for their turn.
        self._waiting: list[CaptionRequest] = []
        self._tasks: list[ImageTask[Any]] = []
        self._thread = threading.Thread(target=self._run, name="cutline-scheduler", daemon=True)
        self._thread.start()
        atexit.register(self.close, cancel=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(cancel=error is not None)

    def submit(
        self,
        image: ImageSource,
        prompt: str | None = None,
        *,
        id: Any = None,
        deadline: float | None = None,
        logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None = None,
        **settings: Unpack[GenerationKwargs],
    ) -> CaptionRequest:
        """Submit an image to caption; return at once.

        Args:
            image: A path, bytes, PIL image or (H, W, 3) uint8 array.
            prompt: The beginning of the caption (default: the model's own).
            id: What to call the request (default: a number).
            deadline: Seconds from now until the request must be done, the time in the queue
                included; None for no limit.
            logits_processor: As for `Captioner.caption`; the thread of the model calls it.
            **settings: Fields of `GenerationConfig`, such as num_beams=5 or sample=True.

        Returns:
            The request. An image that cannot be read, or a prompt that is too long, is its error.

        Raises:
            ConfigError: A setting is unknown or invalid.
            QueueFullError: Too many requests wait.
            SchedulerClosedError: The scheduler is closed, or its model has failed.
        """
        config = self._captioner.make_config(settings, SUBMIT_ARGUMENTS)
        processors = to_processor_list(logits_processor)
        check_deadline(deadline)
        prompt = self._captioner.config.prompt if prompt is None else prompt
        check_prompt(prompt)
        prompt_ids = self._captioner.tokenizer.encode_prompt(prompt)

        def make_request(number: int) -> CaptionRequest:
            request = CaptionRequest(number if id is None else id, config, prompt_ids, deadline)
            request.logits_processors = processors
            return request

        return self._add(make_request, image, self._captioner.config.vision.image_size)

    def submit_task(
        self,
        image: ImageSource,
        function: Callable[[Tensor], T],
        *,
        image_size: int | None = None,
        id: Any = None,
        deadline: float | None = None,
    ) -> ImageTask[T]:
        """Submit a function of an image, which the thread of the model runs between two steps.

        It waits in the same queue as captions. Between two steps, one such function runs.

        Args:
            image: As for `submit`.
            function: Called with the pixels (3, S, S), uint8; it returns the result, not None.
            image_size: S (default: that of the captioner).
            id: What to call the task (default: a number).
            deadline: As for `submit`; a function that has begun is not stopped.

        Returns:
            The task. An image that cannot be read is its error, and so is what the function raises.

        Raises:
            ConfigError: The deadline is invalid.
            QueueFullError: Too many requests wait.
            SchedulerClosedError: The scheduler is closed, or its model has failed.
        """
        check_deadline(deadline)

        def make_task(number: int) -> ImageTask[T]:
            return ImageTask(function, number if id is None else id, deadline)

        return self._add(make_task, image, image_size or self._captioner.config.vision.image_size)

    @property
    def is_open(self) -> bool:
        """Return whether it accepts requests: it is not closed, and its model has not failed."""
        return not self._closed and self._error is None

    @property
    def num_running(self) -> int:
        """Return the number of captions that are being generated."""
        return len(self._runner)

    @property
    def num_waiting(self) -> int:
        """Return the number of requests and tasks that have not started."""
        with self._lock:
            return max(0, len(self._requests) - self.num_running)

    def warm_up(self) -> None:
        """Caption a blank image, so that later ones do not wait for what the first one takes.

        Until requests have waited for each other, its seconds stand for those of any request in
        `estimate_seconds`: in a batch, a request takes less.
        """
        image = Image.new("RGB", (1, 1))
        seconds = []
        for _ in range(2):  # the first one may take longer
            start = time.monotonic()
            with suppress(GenerationError):
                self.submit(image).result()
            seconds.append(time.monotonic() - start)
        self._pace.seconds_alone = min(seconds)

    def estimate_seconds(self, count: int = 1) -> float:
        """Return the seconds until requests submitted now are done, going by the last ones.

        Args:
            count: Number of requests.

        Returns:
            The estimate; 0 if they need not wait, or while nothing is known.
        """
        with self._lock:
            num_ahead = len(self._requests)
        if num_ahead <= self.num_running:
            return 0.0
        return (num_ahead + count) * self._pace.seconds_per_request

    def _add(self, make_request: Callable[[int], R], image: ImageSource, image_size: int) -> R:
        """Return a new request, whose image is opened in the background."""
        self._captioner.check_process()
        with self._lock:
            self._check_open()
            if len(self._requests) >= self._limit:
                raise QueueFullError(
                    f"{self._max_queue} requests wait already: try again later, or raise max_queue"
                )
            number = next(self._numbers)
            request = make_request(number)
            self._requests[request] = number
            try:
                self._open(request, image, image_size)
            except BaseException:  # such as too many threads
                del self._requests[request]
                raise
        return request

    def _open(self, request: Request[Any], image: ImageSource, image_size: int) -> None:
        """Open the image of a request in the background."""
        request.on_cancel, request.on_finish = self._wake, self._remove
        try:
            if isinstance(request, CaptionRequest):
                check_prompt_length(len(request.prompt_ids), request.config)
        except ConfigError as error:
            self._messages.put(partial(request.finish, error))
            return

        def receive(request: Request[Any], opened: Opened) -> None:
            self._messages.put(partial(self._receive, request, opened))

        self._opener.open(request, image, image_size, receive)
        self._wake()  # for its deadline

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the thread of the model, between two steps; return its result.

        Raises:
            SchedulerClosedError: The scheduler is closed, or its model has failed.
        """
        self._captioner.check_process()
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()

        def run() -> None:
            if self._error is not None:
                future.set_exception(self._closed_error())
                return
            try:
                future.set_result(function())
            except BaseException as error:  # raised again in the thread that called
                future.set_exception(error)

        with self._lock:
            self._check_open()
            self._messages.put(run)
        return future.result()

    def close(self, cancel: bool = False) -> None:
        """Accept no more requests, wait for those that were submitted, and end the thread.

        Args:
            cancel: Whether to cancel all requests first.
        """
        with self._lock:
            self._closed = True
        if cancel:
            self._cancel_all()
        self._wake()
        if threading.current_thread() is not self._thread:
            try:
                self._thread.join()
            except BaseException:  # Ctrl-C
                self._cancel_all()
                raise
        atexit.unregister(self.close)

    def _cancel_all(self) -> None:
        with self._lock:
            requests = list(self._requests)
        for request in requests:
            request.cancel()

    def _check_open(self) -> None:
        if not self.is_open:
            raise self._closed_error()

    def _closed_error(self) -> SchedulerClosedError:
        reason = f": its model failed ({self._error})" if self._error else ""
        error = SchedulerClosedError(f"the scheduler is closed{reason}; make a new one")
        error.__cause__ = self._error
        return error

    def _wake(self) -> None:
        self._messages.put(lambda: None)

    # The thread of the model

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._requests or not self._closed:
                    start, others_wait = time.monotonic(), self._is_full()
                    self._read_messages()
                    self._stop_opening()
                    num_done = self._run_task()
                    done = self._runner.run_step(self._waiting)
                    num_done += sum(isinstance(each.outcome, Caption) for each in done)
                    self._pace.record(time.monotonic() - start, num_done, others_wait)
        except BaseException as error:  # ends every request, whose threads would wait forever
            self._end(error)
        self._read_messages(wait=False)
        self._opener.close()

    def _is_full(self) -> bool:
        """Return whether requests wait for a slot, not only to be encoded with others."""
        num_captions = len(self._waiting) + len(self._runner)
        return bool(self._tasks) or num_captions > self._runner.slots

    def _read_messages(self, wait: bool = True) -> None:
        """Run all messages; wait for one if nothing else is to be done."""
        idle = wait and not (self._waiting or self._tasks or len(self._runner))
        with suppress(queue.Empty):
            if idle:
                self._messages.get(timeout=self._time_left())()
            while True:
                self._messages.get_nowait()()

    def _run_task(self) -> int:
        """Run the first task that waits, if there is one; return the number of those that ran."""
        for task in tuple(self._tasks):  # each may take long
            if reason := task.find_reason_to_stop():
                self._tasks.remove(task)
                task.finish(reason)
        if not self._tasks:
            return 0
        task = self._tasks.pop(0)
        with torch.inference_mode(False):  # some need gradients
            task.run()
        return 1

    def _find_opening(self) -> list[Request[Any]]:
        """Return the requests whose images are being opened."""
        with self._lock:
            return [request for request in self._requests if request.pixels is None]

    def _time_left(self) -> float | None:
        """Return the seconds until the first deadline of a request whose image is being opened."""
        ends = [
            request.end_time for request in self._find_opening() if request.end_time is not None
        ]
        return min(MAX_WAIT, max(0.0, min(ends) - time.monotonic())) if ends else None

    def _stop_opening(self) -> None:
        """End requests that stop before their images are opened."""
        for request in self._find_opening():
            if reason := request.find_reason_to_stop():
                request.finish(reason)

    def _receive(self, request: Request[Any], opened: Opened) -> None:
        """Let a request wait for its turn, in the order of submission, once its image is open."""
        if request.done():
            return
        if isinstance(opened, Tensor):
            request.pixels = opened
            waiting: list[Any] = self._tasks if isinstance(request, ImageTask) else self._waiting
            waiting.append(request)
            waiting.sort(key=self._requests.__getitem__)
        else:
            request.finish(opened)

    def _remove(self, request: Request[Any]) -> None:
        with self._lock:
            self._requests.pop(request, None)
        self._opener.cancel(request)

    def _end(self, error: BaseException) -> None:
        """End all requests with the error of the model."""
        with self._lock:
            self._error = error
            requests = list(self._requests)
        for request in requests:
            request.finish(error)


def check_deadline(deadline: float | None) -> None:
    """Raise ConfigError unless a deadline is None or a positive number of seconds."""
    if deadline is not None:
        is_valid = isinstance(deadline, int | float) and 0 < deadline < math.inf
        require(is_valid, f"deadline must be a positive number of seconds, not {deadline}")
