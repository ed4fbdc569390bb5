"""What went wrong with a request: the error to raise, and whether to send the request again."""

import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from cutline.config import ClientConfig
from cutline.errors import (
    ConfigError,
    CutlineError,
    DeadlineExceededError,
    ImageError,
    QueueFullError,
)
from cutline.messages import format_text, one_line

if TYPE_CHECKING:
    import httpx

_ERRORS: Mapping[str, type[CutlineError]] = {
    "invalid_image": ImageError,
    "unsupported_media_type": ImageError,
    "too_large": ImageError,  # each request has one image
    "queue_full": QueueFullError,
    "deadline_exceeded": DeadlineExceededError,
}
"""type of a server's error → error to raise"""
_ERRORS_BY_STATUS: Mapping[int, type[CutlineError]] = {
    413: ImageError,
    415: ImageError,
    429: QueueFullError,
    504: DeadlineExceededError,
}
"""status of an answer of which the body is not ours, such as that of a proxy → error to raise"""
_RETRIED = (429, 503)


MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""what reading a JSON that is not ours raises"""


@dataclass(frozen=True)
class Failure:
    """A request that failed."""

    error: CutlineError
    """what to raise if it is not sent again"""
    can_retry: bool = False
    retry_after: float | None = None
    """seconds that the server asks to wait"""


def read_failure(
    response: "httpx.Response", body: bytes, name: str, config: ClientConfig
) -> Failure:
    """Return the failure that an answer tells of.

    Args:
        response: The answer, of which the status is one of an error.
        body: Its body.
        name: Name of the image, for errors of images.
        config: The settings of the client.
    """
    status = response.status_code
    try:
        error = make_error(json.loads(body)["error"], name)
    except MALFORMED:
        kind = _ERRORS_BY_STATUS.get(status, CutlineError)
        start = f"{name}: " if kind is ImageError else ""
        error = kind(f"{start}{config.base_url} answered {status}{_explain(status)}")
    return Failure(error, status in _RETRIED, _read_retry_after(response.headers))


def make_error(data: Any, name: str) -> CutlineError:
    """Return the error that a server describes in JSON; one of an image names the image.

    Raises:
        KeyError, TypeError, AttributeError: The JSON is not one of an error.
    """
    message, param = one_line(str(data["message"])), data.get("param") or ""
    kind = _ERRORS.get(data["type"], CutlineError)
    if str(param).startswith("image"):
        kind = ImageError
    elif data["type"] == "invalid_request" and param:
        kind = ConfigError
    if kind is ImageError and name:
        message = f"{name}: {message.removeprefix(f'{param}: ')}"
    error = kind(message)
    if kind is ConfigError:
        error.setting = str(param)
    return error


@contextmanager
def foreign_answers(url: str) -> Iterator[None]:
    """Turn the errors of reading an answer that is not ours into CutlineError."""
    try:
        yield
    except MALFORMED as error:
        raise CutlineError(
            f"{url} answered, but not as `cutline serve` does ({type(error).__name__}); check the "
            "address"
        ) from None


def _explain(status: int) -> str:
    if status == 413:
        return ": the request is too large for a proxy; scale the image down"
    if status in (429, 503):
        return ": it is too busy or not ready; try again later"
    if status == 504:
        return ": a proxy has waited too long; try again later"
    return ", but not as `cutline serve` does; check the address"


def _read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the header Retry-After, which also may be a date."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    date, now = _read_date(text), _read_date(headers.get("date", ""))
    # Clocks differ: the date is compared with that of the answer, if it has one.
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds()) if date else None


def _read_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def explain_connection(error: Exception, config: ClientConfig) -> Failure:
    """Return the failure that an `httpx.RequestError` means.

    Only a request of which nothing was sent can be sent again: otherwise, the server may be busy
    with it.
    """
    import httpx

    url, cause = config.base_url, _find_system_error(error)
    if isinstance(cause, ssl.SSLError):
        reason = format_text(getattr(cause, "verify_message", "") or str(cause.reason))
        hint = "check the address, or name the server's certificate in SSL_CERT_FILE"
        return Failure(CutlineError(f"{url}: the TLS connection fails ({reason}); {hint}"))
    reason = format_text(_explain_system_error(cause) or str(error)) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        hint = "start `cutline serve`, or give its address as base_url"
        return Failure(CutlineError(f"{url} cannot be reached ({reason}): {hint}"), can_retry=True)
    if isinstance(error, httpx.TimeoutException):
        return Failure(make_timeout(config))
    return Failure(CutlineError(f"{url}: the connection failed ({reason}); try again"))


def _find_system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the system that an error stems from, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error
        error = error.__cause__ or error.__context__
    return None


def _explain_system_error(error: OSError | None) -> str:
    if error is None or isinstance(error, socket.gaierror):  # which has numbers of its own
        return (error and error.strerror) or ""
    return os.strerror(error.errno or 0)


def make_timeout(config: ClientConfig) -> DeadlineExceededError:
    """Return the error of a request that was not answered in time."""
    return DeadlineExceededError(
        f"{config.base_url} has not answered within {config.timeout:g} s: raise timeout, or send "
        "fewer requests at once"
    )


@contextmanager
def number_errors(index: int) -> Iterator[None]:
    """Let the errors of a block tell the number of the image."""
    try:
        yield
    except CutlineError as error:
        error.index = index
        raise
