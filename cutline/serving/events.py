"""Server-sent events: the captions of a request, word by word."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from cutline.batching import CaptionRequest, TextEvent
from cutline.config import CaptionStyle
from cutline.serving.errors import to_api_error
from cutline.serving.schemas import caption_to_json
from cutline.serving.service import CaptionService, cancel_requests

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy may hold parts back


class CaptionStream(StreamingResponse):
    """A response that is sent while captions are generated; they are cancelled when it ends."""

    def __init__(
        self, parts: AsyncIterator[str], requests: Sequence[CaptionRequest], media_type: str
    ) -> None:
        super().__init__(parts, headers=_HEADERS, media_type=media_type)
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts as they come."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            cancel_requests(self._requests)


def format_event(name: str, data: object) -> str:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


async def stream_events(
    service: CaptionService, requests: Sequence[CaptionRequest], style: CaptionStyle = "plain"
) -> AsyncIterator[str]:
    """Yield the events of all requests as they come, then the event "done"."""
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def watch(index: int, request: CaptionRequest) -> None:
        try:
            async for name, data in watch_request(service, request, style):
                await queue.put(format_event(name, {"index": index, **data}))
        finally:
            await queue.put(None)

    tasks = [asyncio.create_task(watch(*each)) for each in enumerate(requests)]
    try:
        num_running = len(tasks)
        while num_running:
            event = await queue.get()
            if event is None:
                num_running -= 1
            else:
                yield event
        yield format_event("done", {})
    finally:
        for task in tasks:
            task.cancel()


async def watch_request(
    service: CaptionService, request: CaptionRequest, style: CaptionStyle
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a request by name: "text", then "caption" or "error"."""
    start = time.monotonic()
    has_text = False
    try:
        async for event in request.events(draft=True):
            if not has_text:
                has_text = True
                service.metrics.first_token.observe(time.monotonic() - start)
            if isinstance(event, TextEvent):
                text = {"text": event.text, "draft": event.draft}
                yield "text", {"candidate": event.candidate, **text}
            else:
                caption = caption_to_json(service.complete(request, event, style))
                yield "caption", {"caption": caption}
    except Exception as error:
        api_error = to_api_error(error)
        service.metrics.errors.labels(api_error.type).inc()
        yield "error", api_error.content
