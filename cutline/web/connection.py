"""One HTTP request: to a checked address of the host, within a time limit."""

import io
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from http.client import HTTPConnection
from typing import IO, Any, cast

from cutline.config import UrlPolicy
from cutline.web.address import Url
from cutline.web.errors import UrlError, url_errors
from cutline.web.hosts import AddressInfo, find_addresses

CHUNK_BYTES = 1 << 18
"""bytes that are read at once, at most"""


class TimeLimit:
    """A number of seconds that all steps of a request share."""

    def __init__(self, seconds: float) -> None:
        """Start to count."""
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Count from the beginning."""
        self.end = time.monotonic() + self.seconds

    def remaining(self) -> float:
        """Return the seconds left. Raises TimeoutError if there are none."""
        remaining = self.end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


class Response(io.RawIOBase):
    """The answer of a server: status, headers and a stream of its body."""

    def __init__(self, url: Url, policy: UrlPolicy, limit: TimeLimit) -> None:
        """Send a GET request and read the headers.

        Raises:
            UrlError: The host is not allowed, or there is no answer.
        """
        self.limit, self.position = limit, 0
        self.restart_limit = False
        """whether each read has the whole time, instead of all together"""
        self._connection = _Connection(url, policy, limit)
        headers = {
            "Host": url.authority,
            "User-Agent": "cutline",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if url.authorization:
            headers["Authorization"] = url.authorization
        try:
            with url_errors(limit.seconds):
                self._connection.request("GET", url.target, headers=headers)
                self._response = self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise
        self.status, self.reason = self._response.status, self._response.reason
        self.headers, self.length = self._response.headers, self._response.length

    def readable(self) -> bool:
        """Return True, as every stream for reading does."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes of the body; 0 at its end.

        Raises:
            UrlError: The connection failed, or the body ends too early.
        """
        size = min(len(buffer), CHUNK_BYTES)
        if self.length is not None:
            size = min(size, self.length - self.position)
        if self.restart_limit:
            self.limit.restart()
        with url_errors(self.limit.seconds):
            data = self._response.read1(size) if size else b""
        if size and not data and self.length is not None:
            raise UrlError(
                f"it ends after {self.position:,} of {self.length:,} bytes; try again later", 0
            )
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        if not self.closed and hasattr(self, "_response"):
            with suppress(OSError):
                self._response.close()
                self._connection.close()
        super().close()


class _Connection(HTTPConnection):
    """A connection to one of the addresses that have been checked, not to a name."""

    def __init__(self, url: Url, policy: UrlPolicy, limit: TimeLimit) -> None:
        super().__init__(url.host, url.port)
        self.url, self.policy, self.limit = url, policy, limit

    def connect(self) -> None:
        """Look up the host, check its addresses and connect to the first that answers."""
        url, limit = self.url, self.limit
        infos = find_addresses(url.host, url.port, self.policy, limit.remaining())
        sock = _connect_any(infos, limit)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                sock.settimeout(limit.remaining())
                sock = _tls_context().wrap_socket(sock, server_hostname=url.host.rstrip("."))
        except BaseException:
            sock.close()
            raise
        self.sock = _TimedSocket(sock, limit)


def _connect_any(infos: Sequence[AddressInfo], limit: TimeLimit) -> socket.socket:
    """Connect to the first address that answers; each has an equal share of the time left."""
    error: OSError = TimeoutError()
    for index, (family, kind, protocol, _, address) in enumerate(infos):
        try:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(limit.remaining() / (len(infos) - index))
                sock.connect(address)
            except BaseException:
                sock.close()
                raise
            return sock
        except OSError as failure:
            error = failure
    raise error


@cache  # loading the certificates of the system takes some 20 ms
def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _TimedSocket:
    """What `http.client` needs of a socket, with a limit for all operations together.

    The timeout of a socket alone starts again with every byte that a server sends.
    """

    def __init__(self, sock: socket.socket, limit: TimeLimit) -> None:
        self.sock, self.limit = sock, limit

    def sendall(self, data: Any) -> None:
        self.sock.settimeout(self.limit.remaining())
        self.sock.sendall(data)

    def makefile(self, mode: str) -> IO[bytes]:
        return io.BufferedReader(_TimedReader(self.sock, self.limit))

    def close(self) -> None:
        self.sock.close()


class _TimedReader(io.RawIOBase):
    """Reads a socket."""

    def __init__(self, sock: socket.socket, limit: TimeLimit) -> None:
        self.sock, self.limit = sock, limit
        self.file = cast(io.RawIOBase, sock.makefile("rb", buffering=0))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.limit.remaining())
        return self.file.readinto(buffer)

    def close(self) -> None:
        self.file.close()
        super().close()
