"""Limits on requests as they arrive: size, time, and the memory of all together."""

import asyncio
import time
from contextlib import suppress
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutline.config import ServeLimits
from cutline.serving.errors import ApiError, error_response

DISCARD_SECONDS = 2.0


class Memory:
    """The bytes of all requests that are being received or processed."""

    def __init__(self, limits: ServeLimits) -> None:
        """Count from 0."""
        self.limits, self.total = limits, 0


class RequestMemory:
    """The bytes of one request: its body, and the images that it names. Use it as a context."""

    def __init__(self, memory: Memory) -> None:
        """Count from 0."""
        self._memory, self._size = memory, 0

    def __enter__(self) -> "RequestMemory":
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self._memory.total -= self._size

    def add(self, count: int) -> None:
        """Count bytes as used until the request ends.

        Raises:
            ApiError: The request, or all together, have more than is allowed.
        """
        limits = self._memory.limits
        self._size += count
        self._memory.total += count
        if self._size > limits.max_body_bytes:
            raise too_large(limits)
        if self._memory.total > limits.max_buffered_bytes:
            raise ApiError(429, "queue_full", "too many requests at once", retry_after=1)


_current: ContextVar[RequestMemory] = ContextVar("request_memory")
_arrival: ContextVar[float] = ContextVar("arrival")


def count_bytes(count: int) -> None:
    """Count bytes that the current request needs besides its body. Raises ApiError."""
    _current.get().add(count)


def seconds_since_arrival() -> float:
    """Return how long ago the current request had arrived as a whole; 0 outside of requests."""
    now = time.monotonic()
    return now - _arrival.get(now)


def too_large(limits: ServeLimits) -> ApiError:
    """Return the error of a request that is too large."""
    limit = limits.max_body_bytes
    message = f"the request has more than {limit:,} bytes; send fewer or smaller images"
    return ApiError(413, "too_large", message)


class RequestLimits:
    """ASGI middleware: receives the whole body of a request, within limits, and passes it on.

    A client that goes away cancels the request.
    """

    def __init__(self, app: ASGIApp, limits: ServeLimits) -> None:
        """Wrap an application."""
        self._app, self._limits = app, limits
        self._memory = Memory(limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with RequestMemory(self._memory) as memory:
            try:
                async with asyncio.timeout(self._limits.body_timeout):
                    body = await self._receive_body(scope, receive, memory)
            except ApiError as error:
                await self._discard_body(scope, receive)
                await error_response(error, scope)(scope, receive, send)
            except TimeoutError:
                message = "the request did not arrive in time; send it faster, or less of it"
                late = ApiError(408, "timeout", message)
                await error_response(late, scope)(scope, receive, send)
            else:
                if body is not None:
                    await self._run(scope, body, receive, send)

    async def _receive_body(
        self, scope: Scope, receive: Receive, memory: RequestMemory
    ) -> bytes | None:
        """Return the body; None if the client went away."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length and "transfer-encoding" in headers:
            # A proxy may use the other one, and take the rest for a request that it has checked.
            reason = "send Content-Length or Transfer-Encoding, not both"
            raise ApiError(400, "invalid_request", reason, "Content-Length", closes=True)
        if length.isdecimal() and int(length[:20]) > self._limits.max_body_bytes:
            raise too_large(self._limits)
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            body += chunk
            memory.add(len(chunk))
            if not message.get("more_body", False):
                return bytes(body)

    async def _discard_body(self, scope: Scope, receive: Receive) -> None:
        """Receive the rest of a body: many clients read the response only after they sent it."""
        if "expect" in Headers(scope=scope):  # the client waits for leave to send it
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while (await receive()).get("more_body", False):
                    pass

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application until it ends or the client goes away."""
        received = False

        async def replay() -> Message:
            nonlocal received
            if received:
                await asyncio.Event().wait()  # nothing follows; `_run` notices who goes away
            received = True
            return {"type": "http.request", "body": body, "more_body": False}

        _arrival.set(time.monotonic())
        running = asyncio.ensure_future(self._app(scope, replay, send))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not running.done():
                running.cancel()
        with suppress(asyncio.CancelledError):  # the client left
            await running


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
