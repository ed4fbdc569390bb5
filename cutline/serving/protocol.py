"""`TimedProtocol`: uvicorn's HTTP protocol with a time limit for headers, which it lacks."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from cutline.config import ServeLimits


class TimedProtocol(H11Protocol):
    """Closes connections whose headers do not arrive in time, and those that are too many.

    Subclasses set `limits`; see `make_protocol`.
    """

    limits: ServeLimits
    _headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start to wait for headers."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self.connections.discard(self)
            transport.abort()
            return
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read data; stop waiting once all headers are there."""
        self._start_timer()
        super().data_received(data)
        if self._is_answering():
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        if self._headers_timer is None and not self._is_answering():
            seconds = self.limits.header_timeout
            self._headers_timer = self.loop.call_later(seconds, self._close_late)

    def _stop_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _close_late(self) -> None:
        self._headers_timer = None
        if not self._is_answering():
            self.transport.close()


def make_protocol(limits: ServeLimits) -> type[TimedProtocol]:
    """Return the class of connections with these limits."""
    return type("LimitedProtocol", (TimedProtocol,), {"limits": limits})
