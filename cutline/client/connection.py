"""What both clients pass to httpx."""

import os
from functools import cache
from typing import Any

from cutline.client.calls import Call
from cutline.config import ClientConfig
from cutline.errors import ConfigError
from cutline.messages import first_line, format_value

CONNECT_TIMEOUT = 10.0
"""seconds to wait for a connection, after which another try may be luckier"""
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def require_httpx() -> Any:
    """Return the module `httpx`.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import httpx
    except ImportError:
        raise ConfigError(
            "a client needs httpx, which is not installed: pip install 'cutline[serve]'"
        ) from None
    return httpx


def make_http_options(config: ClientConfig) -> dict[str, Any]:
    """Return the arguments of `httpx.Client` and `httpx.AsyncClient`.

    Raises:
        ConfigError: httpx is not installed, or the address of the server is invalid.
    """
    httpx = require_httpx()
    try:
        base_url = httpx.URL(config.base_url)
        _ = base_url.host  # which is decoded now
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(
            "base_url must be an address such as http://127.0.0.1:8000, not "
            f"{format_value(config.base_url)} ({first_line(error)})"
        ) from None
    headers = {"User-Agent": "cutline"}
    if config.token is not None:
        headers["Authorization"] = f"Bearer {config.token}"
    return {
        "base_url": base_url,
        "headers": headers,
        "verify": _load_certificates(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))),
        # Idle connections are closed before the server closes them, after 15 seconds.
        "limits": httpx.Limits(max_connections=None, keepalive_expiry=5.0),
        # The proxy that HTTP_PROXY names cannot reach a server on this machine.
        "mounts": {f"all://{host}": None for host in LOOPBACK_HOSTS},
    }


@cache  # loading the certificates of the system takes some 20 ms
def _load_certificates(*_: str | None) -> Any:
    """Return what servers are verified with, given the variables that httpx reads."""
    try:
        return require_httpx().create_ssl_context()
    except OSError as error:
        raise ConfigError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR name cannot be read "
            f"({error.strerror or error}); check both"
        ) from None


def make_arguments(call: Call[Any], body: bytes, timeout: float) -> dict[str, Any]:
    """Return the arguments of `stream` of httpx's clients.

    Args:
        call: The request.
        body: Its JSON.
        timeout: Seconds to wait for the answer, and for each part of it.
    """
    headers = {"Content-Type": "application/json"} if body else {}
    return {
        "method": call.method,
        "url": call.path.removeprefix("/"),
        "headers": headers,
        "content": body,
        "timeout": require_httpx().Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
    }
