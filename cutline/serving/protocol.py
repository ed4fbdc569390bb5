"""`TimedProtocol`: uvicorn's HTTP protocol with the time limits that it lacks."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from cutline.config import ServeLimits
from cutline.serving.errors import ApiError


class TimedTransport:
    """A connection that is closed at last though the client does not take the rest of a response.

    asyncio would wait without a limit until all is sent.
    """

    def __init__(self, transport: asyncio.Transport, wait: Callable[[], None]) -> None:
        """Wrap a transport, whose other attributes are here, too; `wait` starts the time limit."""
        self._transport, self._wait = transport, wait

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close the connection once all is sent, or the time is over."""
        self._wait()
        self._transport.close()


class TimedProtocol(H11Protocol):
    """Closes connections that are too many, or whose clients are too slow.

    Subclasses set `limits`; see `make_protocol`.
    """

    limits: ServeLimits

    def connection_made(self, transport: Any) -> None:
        """Start to wait for headers."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        timed: Any = TimedTransport(transport, self._limit_closing)
        super().connection_made(timed)
        if len(self.connections) > self.limits.max_connections:
            self.connections.discard(self)
            transport.abort()
            return
        self._limit_receiving()

    def data_received(self, data: bytes) -> None:
        """Read data; stop waiting once all headers are there."""
        self._limit_receiving()
        super().data_received(data)
        if self._is_answering():
            self._stop_timer("receiving")

    def pause_writing(self) -> None:
        """Start to wait for the client to read."""
        super().pause_writing()
        self._start_timer("sending", self.limits.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for the client."""
        super().resume_writing()
        self._stop_timer("sending")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        for name in tuple(self._timers):
            self._stop_timer(name)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the shape of our errors."""
        if self._is_answering():
            self.cycle.disconnected = True  # what it sends would follow this response
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # a response has begun
            self.transport.abort()
            return
        error = ApiError(400, "invalid_request", "the request is not valid HTTP; check it")
        body = json.dumps(error.content).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        response = h11.Response(status_code=error.status, headers=headers, reason="Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _limit_receiving(self) -> None:
        if not self._is_answering():
            self._start_timer("receiving", self.limits.header_timeout, self._close_late)

    def _limit_closing(self) -> None:
        self._start_timer("closing", self.limits.send_timeout, self.transport.abort)

    def _close_late(self) -> None:
        self._stop_timer("receiving")
        if not self._is_answering():
            self.transport.close()

    def _start_timer(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, action)

    def _stop_timer(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()


def make_protocol(limits: ServeLimits) -> type[TimedProtocol]:
    """Return the class of connections with these limits."""
    return type("LimitedProtocol", (TimedProtocol,), {"limits": limits})
