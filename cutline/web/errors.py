"""`UrlError`, and what the errors of sockets, TLS and HTTP mean."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead

from cutline.messages import format_name

_INTERRUPTED = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    IncompleteRead,
    ssl.SSLEOFError,
)

UNKNOWN_HOST = "there is no such host that may be used; give another address"
"""for a name that exists, too, if its addresses are private: names are part of a network"""


class UrlError(OSError):
    """An address that cannot be fetched. The message is the cause and the fix, without the address.

    Attributes:
        retry_after: Seconds after which another try may succeed, at least; None if it would not.
        public: The message for people who may not learn anything of this machine's network.
    """

    def __init__(self, reason: str, retry_after: float | None = None, public: str = "") -> None:
        super().__init__(reason)
        self.retry_after, self.public = retry_after, public or reason


@contextmanager
def url_errors(seconds: float) -> Iterator[None]:
    """Turn every error of a connection into UrlError; `seconds` is its time limit."""
    try:
        yield
    except UrlError:
        raise
    except TimeoutError:
        reason = f"not received within {seconds:g} seconds; try again later, or raise the timeout"
        raise UrlError(reason) from None
    except _INTERRUPTED:
        raise UrlError("the server closed the connection; try again later", 0) from None
    except (OSError, HTTPException) as error:
        temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        public = UNKNOWN_HOST if isinstance(error, socket.gaierror) else ""
        raise UrlError(_explain(error), 0 if temporary else None, public) from None


def _explain(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is invalid ({error.verify_message}); give another address"
    if isinstance(error, ssl.SSLError):
        return f"the TLS connection fails ({error.reason}); give another address"
    if isinstance(error, socket.gaierror):
        return f"the host is not found ({error.strerror}); check the address and the network"
    if isinstance(error, HTTPException):
        problem = format_name(error) or type(error).__name__
        return f"the answer is not valid HTTP ({problem}); check the address"
    reason = getattr(error, "strerror", None) or error
    return f"the host cannot be reached ({reason}); check the address and the network"
