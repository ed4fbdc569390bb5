"""`CaptionRequest`: one image to caption, and the result that other threads wait for."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from cutline.batching.caption import Caption, TextEvent
from cutline.batching.request import Request
from cutline.config import GenerationConfig
from cutline.errors import GenerationError
from cutline.generation import LogitsProcessor, Progress
from cutline.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Sent:
    """What the events of a candidate contain so far."""

    text: str = ""
    token_ids: tuple[int, ...] = ()


class CaptionRequest(Request[Caption]):
    """One image to caption, with its own settings.

    Use it from any thread or event loop: `result()` and `await request` return the caption;
    `for event in request` and `async for event in request` yield a `TextEvent` whenever tokens are
    settled, then the `Caption`. All of them raise the error of a request that fails.

    Attributes:
        config: Its settings.
        prompt_ids: The tokens of its prompt.
        logits_processors: Functions of the caller that change the scores of the next token.
        match_input: What a matcher reads of the image when the captions are ranked: pixels
            (3, S, S) or, with `keeps_embeds`, the image_embeds (N, D) of the captioner.
        keeps_embeds: Whether to keep the image_embeds.
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
        super().__init__(id, deadline, name)
        self.config, self.prompt_ids = config, prompt_ids
        self.logits_processors: tuple[LogitsProcessor, ...] = ()
        self.match_input: Tensor | None = None
        self.keeps_embeds = False
        self.wants_events = self.wants_drafts = False
        self._has_diverged = False
        self._events: list[TextEvent] = []
        self._sent: dict[int, _Sent] = {}

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

    def next_events(self, count: int) -> list[TextEvent]:
        """Wait for events after the first `count`; return none if the request ends without more."""
        with self._changed:
            self._changed.wait_for(partial(self._has_more, count))
            return self._events[count:]

    async def next_events_async(self, count: int) -> list[TextEvent]:
        """Wait as `next_events` does, without blocking the event loop."""
        await self._wait_for_change(partial(self._has_more, count))
        return self._events[count:]

    def _has_more(self, num_events: int) -> bool:
        return self.done() or len(self._events) > num_events

    # Used by BatchRunner and CaptionScheduler

    def report(self, progress: Progress, tokenizer: Tokenizer) -> None:
        """Add events for what has been settled since the last call."""
        new = []
        for candidate, token_ids in enumerate(progress.settled):
            text, draft = tokenizer.decode_settled(token_ids), ""
            if self.wants_drafts and candidate == 0:
                draft = tokenizer.decode([*token_ids, *progress.draft])[len(text) :]
            new += self._make_events(candidate, text, token_ids, draft)
        if new:
            self.notify(None, new)

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
        self.release()
        self.notify(outcome, [] if self._has_diverged else new)

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

    def notify(
        self, outcome: Caption | BaseException | None = None, events: Sequence[TextEvent] = ()
    ) -> None:
        """Add events, set the outcome, if there is one, and wake everybody who waits."""
        with self._changed:
            self._events += events
        super().notify(outcome)


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
