"""`CaptionRequest`: one image to caption, and the result that other threads wait for."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from cutline.batching.caption import Caption, TextEvent
from cutline.config import GenerationConfig
from cutline.errors import (
    CutlineError,
    DeadlineExceededError,
    GenerationError,
    RequestCancelledError,
)
from cutline.generation import LogitsProcessor, Progress
from cutline.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Sent:
    """What the events of a candidate contain so far."""

    text: str = ""
    token_ids: tuple[int, ...] = ()


def _ignore(*_: object) -> None:
    """Do nothing."""


class CaptionRequest:
    """One image to caption, with its own settings.

    Use it from any thread or event loop: `result()` and `await request` return the caption;
    `for event in request` and `async for event in request` yield a `TextEvent` whenever tokens are
    settled, then the `Caption`. All of them raise the error of a request that fails.

    Attributes:
        id: What the caller named the request.
        name: Its name in errors.
        config: Its settings.
        prompt_ids: The tokens of its prompt.
        logits_processors: Functions of the caller that change the scores of the next token.
        pixels: The image, (3, S, S); None until it has been opened.
        match_input: What a matcher reads of the image when the captions are ranked: pixels
            (3, S, S) or, with `keeps_embeds`, the image_embeds (N, D) of the captioner.
        keeps_embeds: Whether to keep the image_embeds.
        on_cancel: Called when it is cancelled.
        on_finish: Called with the request when it is done, before others learn of it.
    """

    def __init__(
        self,
        id: Any,
        config: GenerationConfig,
        prompt_ids: Sequence[int],
        deadline: float | None = None,
        name: str = "",
    ) -> None:
        """Make a request that starts waiting now.

        Args:
            id: What the caller names it.
            config: Its settings.
            prompt_ids: The tokens of its prompt.
            deadline: Seconds from now until it must be done; None for no limit.
            name: Its name in errors (default: "request" and its id).
        """
        self.id, self.config, self.prompt_ids = id, config, prompt_ids
        self.name = name or f"request {id}"
        self.logits_processors: tuple[LogitsProcessor, ...] = ()
        self.pixels: Tensor | None = None
        self.match_input: Tensor | None = None
        self.keeps_embeds = False
        self.wants_events = self.wants_drafts = False
        self.end_time = None if deadline is None else time.monotonic() + deadline
        self._deadline, self._cancelled = deadline, False
        self.on_cancel: Callable[[], None] = _ignore
        self.on_finish: Callable[[CaptionRequest], None] = _ignore
        self._has_diverged = False
        self._changed = threading.Condition()
        self._callbacks: list[Callable[[], None]] = []
        self._events: list[TextEvent] = []
        self._sent: dict[int, _Sent] = {}
        self._outcome: Caption | BaseException | None = None

    # Results

    def done(self) -> bool:
        """Return whether there is a caption or an error."""
        return self._outcome is not None

    @property
    def outcome(self) -> Caption | BaseException:
        """Return the caption, or the error, of a request that is done."""
        assert self._outcome is not None
        return self._outcome

    def result(self, timeout: float | None = None) -> Caption:
        """Wait for the caption.

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

    def events(self, draft: bool = False) -> "RequestEvents":
        """Return the events, for `for` or `async for`.

        Args:
            draft: Whether to include the best continuation so far, in an event for each step.
        """
        self.wants_drafts |= draft
        self.wants_events = True
        return RequestEvents(self, draft)

    def __iter__(self) -> Iterator[TextEvent | Caption]:
        return iter(self.events())

    def __aiter__(self) -> AsyncIterator[TextEvent | Caption]:
        return aiter(self.events())

    def __await__(self) -> Generator[Any, None, Caption]:
        """Wait for the caption; a task that is cancelled meanwhile cancels the request."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> Caption:
        try:
            while not self.done():
                await self._wait_for_change(None)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result()

    def next_events(self, count: int) -> list[TextEvent]:
        """Wait for events after the first `count`; return none if the request ends without more."""
        with self._changed:
            self._changed.wait_for(partial(self._has_changed, count))
            return self._events[count:]

    async def next_events_async(self, count: int) -> list[TextEvent]:
        """Wait as `next_events` does, without blocking the event loop."""
        await self._wait_for_change(count)
        return self._events[count:]

    def _has_changed(self, num_events: int | None) -> bool:
        return self.done() or (num_events is not None and len(self._events) > num_events)

    async def _wait_for_change(self, num_events: int | None) -> None:
        """Wait until the request is done or, given a number, has more than `num_events` events."""
        loop = asyncio.get_running_loop()
        changed = loop.create_future()

        def set_changed() -> None:
            if not changed.done():
                changed.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(set_changed)

        with self._changed:
            if self._has_changed(num_events):
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

    def report(self, progress: Progress, tokenizer: Tokenizer) -> None:
        """Add events for what has been settled since the last call."""
        new = []
        for candidate, token_ids in enumerate(progress.settled):
            text, draft = tokenizer.decode_settled(token_ids), ""
            if self.wants_drafts and candidate == 0:
                draft = tokenizer.decode([*token_ids, *progress.draft])[len(text) :]
            new += self._make_events(candidate, text, token_ids, draft)
        if new:
            self._notify(new)

    def finish(self, outcome: Caption | BaseException) -> None:
        """End the request with its caption or its error, unless it has ended."""
        if self.done():
            return
        new: list[TextEvent] = []
        if isinstance(outcome, Caption):
            for caption in outcome.alternatives:
                new += self._make_events(caption.candidate, caption.text, caption.token_ids)
        if self._has_diverged:
            outcome = GenerationError(
                f"{self.name}: the caption changed when it was started again, after running out of "
                "memory; try again with a smaller batch_size"
            )
        self.on_finish(self)
        self.pixels = None
        self.on_cancel, self.on_finish = _ignore, _ignore  # which keep the scheduler in memory
        self._notify([] if self._has_diverged else new, outcome)

    def _make_events(
        self, candidate: int, text: str, token_ids: tuple[int, ...], draft: str = ""
    ) -> list[TextEvent]:
        """Return an event with what is new, given all settled text and tokens of a candidate."""
        sent = self._sent.get(candidate, _Sent())
        if len(token_ids) < len(sent.token_ids):
            return []  # started again, and still behind what was sent
        if not text.startswith(sent.text):
            self._has_diverged = True  # bf16 may round differently in another batch
            return []
        new_text, new_ids = text[len(sent.text) :], token_ids[len(sent.token_ids) :]
        self._sent[candidate] = _Sent(text, token_ids)
        has_news = new_text or new_ids or draft
        return [TextEvent(new_text, new_ids, candidate, draft)] if has_news else []

    def _notify(
        self, events: Sequence[TextEvent], outcome: Caption | BaseException | None = None
    ) -> None:
        with self._changed:
            self._events += events
            self._outcome = outcome
            self._changed.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class RequestEvents:
    """The events of a request, for `for` and `async for`; the last one is the `Caption`."""

    def __init__(self, request: CaptionRequest, draft: bool) -> None:
        self._request, self._draft = request, draft

    def __iter__(self) -> Iterator[TextEvent | Caption]:
        count = 0
        while new := self._request.next_events(count):
            count += len(new)
            yield from self._select(new)
        yield self._request.result()

    async def __aiter__(self) -> AsyncIterator[TextEvent | Caption]:
        count = 0
        while new := await self._request.next_events_async(count):
            count += len(new)
            for event in self._select(new):
                yield event
        yield self._request.result()

    def _select(self, events: Sequence[TextEvent]) -> Iterator[TextEvent]:
        for event in events:
            if self._draft:
                yield event
            elif event.text or event.token_ids:
                yield replace(event, draft="")
