"""Fetch an address: follow redirects, check each, and try again what may succeed then."""

import io
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import IO, TypeVar
from urllib.parse import urljoin

from cutline.config import UrlPolicy
from cutline.messages import format_name, format_text
from cutline.web.address import hide_credentials, parse_url
from cutline.web.connection import CHUNK_BYTES, Response, TimeLimit
from cutline.web.errors import UrlError

T = TypeVar("T")

BACKOFF = (0.5, 2.0)
"""seconds before each further try"""
_REDIRECTS = (301, 302, 303, 307, 308)


def fetch_url(url: str, policy: UrlPolicy, max_bytes: int) -> bytes:
    """Return what is at an address.

    Args:
        url: The http or https address.
        policy: The limits.
        max_bytes: Size limit.

    Raises:
        UrlError: It cannot be fetched within the limits.
    """
    limit = TimeLimit(policy.timeout)

    def fetch() -> bytes:
        with _open(url, policy, limit) as response:
            return _read_all(response, max_bytes)

    return _retry(fetch, limit)


def stream_url(url: str, policy: UrlPolicy) -> IO[bytes]:
    """Open what is at an address, of any size, to be read from front to back.

    The time limit is one of opening, and of each read that waits for the server. Reading raises
    UrlError, which is an OSError, too.

    Raises:
        UrlError: It cannot be opened.
    """
    limit = TimeLimit(policy.timeout)
    response = _retry(lambda: _open(url, policy, limit), limit)
    response.restart_limit = True
    return io.BufferedReader(response, CHUNK_BYTES)


def _retry(operation: Callable[[], T], limit: TimeLimit) -> T:
    for wait in BACKOFF:
        try:
            return operation()
        except UrlError as error:
            if error.retry_after is None:
                raise
            wait = max(wait, error.retry_after)
            if time.monotonic() + wait >= limit.end:
                raise
        time.sleep(wait)
    return operation()


def _open(url: str, policy: UrlPolicy, limit: TimeLimit) -> Response:
    """Return the answer at the end of all redirects."""
    response, location = _request(url, policy, limit)
    for _ in range(policy.max_redirects):
        if response:
            return response
        url = _join(url, location)
        try:
            response, location = _request(url, policy, limit)
        except UrlError as error:
            start = f"it redirects to {format_text(hide_credentials(url))}: "
            public = start + error.public
            raise UrlError(start + str(error), error.retry_after, public) from None
    if response:
        return response
    raise UrlError(f"more than {policy.max_redirects} redirects; give the final address")


def _request(url: str, policy: UrlPolicy, limit: TimeLimit) -> tuple[Response | None, str]:
    """Return the answer, or where it redirects to."""
    response = Response(parse_url(url), policy, limit)
    if response.status == HTTPStatus.OK:
        return response, ""
    response.close()
    location = response.headers.get("Location")
    if response.status in _REDIRECTS and location is not None:
        return None, location
    raise _status_error(response)


def _join(url: str, location: str) -> str:
    try:  # `http.client` decodes headers as Latin-1, but most are UTF-8
        return urljoin(url, location.encode("latin-1").decode("utf-8", "surrogateescape"))
    except ValueError:
        raise UrlError("it redirects to an invalid address; give another one") from None


def _status_error(response: Response) -> UrlError:
    status = response.status
    is_temporary = status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500
    hint = "try again later" if is_temporary else "check the address"
    return UrlError(
        f"the server answers {status} {format_name(response.reason)}".rstrip() + f"; {hint}",
        _parse_delay(response.headers.get("Retry-After", "")) if is_temporary else None,
    )


def _parse_delay(value: str) -> float:
    """Return the seconds of a Retry-After header, which are a number or a date."""
    if value.isdecimal():
        return float(value[:10])
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0


def _read_all(response: Response, max_bytes: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise UrlError(f"sent with compression ({format_name(encoding)}); give another address")
    too_large = UrlError(f"it has more than {max_bytes:,} bytes; remove it")
    if (response.length or 0) > max_bytes:
        raise too_large
    chunks, size = [], 0
    while chunk := response.read(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise too_large
    return b"".join(chunks)
