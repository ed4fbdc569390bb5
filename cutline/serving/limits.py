"""Limits on requests as they arrive: size, time, and the memory of all together."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutline.config import ServeLimits
from cutline.serving.errors import ApiError, error_response

DISCARD_SECONDS = 2.0


class RequestLimits:
    """ASGI middleware: receives the whole body of a request, within limits, and passes it on.

    A client that goes away, or does not take the response, cancels the request.
    """

    def __init__(self, app: ASGIApp, limits: ServeLimits) -> None:
        """Wrap an application."""
        self._app, self._limits = app, limits
        self._buffered = 0  # bytes of all requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout):
                is_complete = await self._receive_body(scope, receive, body)
            if is_complete:
                await self._run(scope, bytes(body), receive, send)
        except ApiError as error:
            await self._discard_body(scope, receive)
            await error_response(error, scope)(scope, receive, send)
        except TimeoutError:
            message = "the request did not arrive in time; send it faster, or less of it"
            late = ApiError(408, "timeout", message)
            await error_response(late, scope)(scope, receive, send)
        finally:
            self._buffered -= len(body)

    async def _receive_body(self, scope: Scope, receive: Receive, body: bytearray) -> bool:
        """Receive the body; return false if the client went away."""
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.max_body_bytes:
            raise self._too_large()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            chunk = message.get("body", b"")
            body += chunk
            self._buffered += len(chunk)
            if len(body) > self._limits.max_body_bytes:
                raise self._too_large()
            if self._buffered > self._limits.max_buffered_bytes:
                raise ApiError(429, "queue_full", "too many requests at once", retry_after=1)
            if not message.get("more_body", False):
                return True

    async def _discard_body(self, scope: Scope, receive: Receive) -> None:
        """Receive the rest of a body: many clients read the response only after they sent it."""
        if "expect" in Headers(scope=scope):  # the client waits for leave to send it
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while (await receive()).get("more_body", False):
                    pass

    def _too_large(self) -> ApiError:
        limit = self._limits.max_body_bytes
        message = f"the request has more than {limit:,} bytes; send fewer or smaller images"
        return ApiError(413, "too_large", message)

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application until it ends or the client goes away."""
        received = False

        async def replay() -> Message:
            nonlocal received
            if received:
                await asyncio.Event().wait()  # nothing follows; `_run` notices who goes away
            received = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._limits.send_timeout):
                await send(message)

        running = asyncio.ensure_future(self._app(scope, replay, send_in_time))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not running.done():
                running.cancel()
        with suppress(asyncio.CancelledError, TimeoutError):  # the client left, or does not read
            await running


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
