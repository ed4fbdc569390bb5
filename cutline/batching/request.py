"""`Request`: what waits for its turn on the thread of the model, and a result to wait for."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar

from torch import Tensor

from cutline.errors import CutlineError, DeadlineExceededError, RequestCancelledError

T = TypeVar("T")


def ignore(*_: object) -> None:
    """Do nothing."""


class Request(Generic[T]):
    """Work for the model, with one image.

    Use it from any thread or event loop: `result()` and `await request` return the result, or raise
    the error of a request that fails.

    Attributes:
        id: What the caller named the request.
        name: Its name in errors.
        pixels: The image, (3, S, S); None until it has been opened.
        end_time: When it must be done, on the clock of `time.monotonic`; None for no limit.
        on_cancel: Called when it is cancelled.
        on_finish: Called with the request when it is done, before others learn of it.
    """

    def __init__(self, id: Any, deadline: float | None = None, name: str = "") -> None:
        """Make a request that starts waiting now.

        Args:
            id: What the caller names it.
            deadline: Seconds from now until it must be done; None for no limit.
            name: Its name in errors (default: "request" and its id).
        """
        self.id = id
        self.name = name or f"request {id}"
        self.pixels: Tensor | None = None
        self.end_time = None if deadline is None else time.monotonic() + deadline
        self._deadline, self._cancelled = deadline, False
        self.on_cancel: Callable[[], None] = ignore
        self.on_finish: Callable[[Any], None] = ignore
        self._changed = threading.Condition()
        self._callbacks: list[Callable[[], None]] = []
        self._outcome: T | BaseException | None = None

    def done(self) -> bool:
        """Return whether there is a result or an error."""
        return self._outcome is not None

    @property
    def outcome(self) -> T | BaseException:
        """Return the result, or the error, of a request that is done."""
        assert self._outcome is not None
        return self._outcome

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Args:
            timeout: Seconds to wait; None for no limit. The request goes on afterwards.

        Raises:
            TimeoutError: It is not done yet.
            CutlineError: The request failed, was cancelled, or exceeded its deadline.
        """
        with self._changed:
            if not self._changed.wait_for(self.done, timeout):
                raise TimeoutError(f"{self.name} is not done after {timeout:g} s")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def cancel(self) -> bool:
        """Stop the request at the next step; return false if it is done already."""
        self._cancelled = True
        self.on_cancel()
        return not self.done()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result; a task that is cancelled meanwhile cancels the request."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> T:
        try:
            while not self.done():
                await self._wait_for_change(self.done)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result()

    async def _wait_for_change(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` may be true, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        changed = loop.create_future()

        def set_changed() -> None:
            if not changed.done():
                changed.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(set_changed)

        with self._changed:
            if condition():
                return
            self._callbacks.append(wake)
        try:
            await changed
        finally:
            with self._changed, suppress(ValueError):  # it has been called
                self._callbacks.remove(wake)

    # Used by BatchRunner and CaptionScheduler

    def find_reason_to_stop(self) -> CutlineError | None:
        """Return an error if the request was cancelled or has exceeded its deadline."""
        if self._cancelled:
            return RequestCancelledError(f"{self.name} was cancelled")
        if self.end_time is not None and time.monotonic() >= self.end_time:
            return DeadlineExceededError(
                f"{self.name} was not done within its deadline of {self._deadline:g} s; "
                "allow more time, or send fewer requests at once"
            )
        return None

    def finish(self, outcome: T | BaseException) -> None:
        """End the request with its result or its error, unless it has ended."""
        if self.done():
            return
        self.release()
        self.notify(outcome)

    def release(self) -> None:
        """Leave the queue, and free the image."""
        self.on_finish(self)
        self.pixels = None
        self.on_cancel, self.on_finish = ignore, ignore  # which keep the scheduler in memory

    def notify(self, outcome: T | BaseException | None = None) -> None:
        """Set the outcome, if there is one, and wake everybody who waits."""
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class ImageTask(Request[T]):
    """A function of an image that the thread of the model runs."""

    def __init__(
        self, function: Callable[[Tensor], T], id: Any = None, deadline: float | None = None
    ) -> None:
        """Make a task.

        Args:
            function: Called with the pixels (3, S, S), uint8; it returns the result, not None.
            id: What the caller names it.
            deadline: As for `Request`.
        """
        super().__init__(id, deadline)
        self._function = function

    def run(self) -> None:
        """Call the function and end with its result or its error."""
        assert self.pixels is not None
        try:
            self.finish(self._function(self.pixels))
        except Exception as error:
            self.finish(error)
