"""Access control: Host and Origin headers, and bearer tokens."""

import hmac
import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cutline.config import ServeConfig
from cutline.errors import ConfigError
from cutline.serving.errors import ApiError, error_response

OPEN_PATHS = ("/", "/healthz", "/readyz")
"""paths that need no token, besides those of the page's files"""
STATIC_PREFIX = "/static/"
READING = ("GET", "HEAD", "OPTIONS")
MIN_TOKEN_LENGTH = 8
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^][:@/\\?#\s]+)(:[0-9]+)?", re.IGNORECASE)


def read_tokens(path: str) -> tuple[bytes, ...]:
    """Return the tokens of a file, one per line; empty lines and lines with # are comments.

    Raises:
        ConfigError: The file cannot be read, or has no token, or one that is too short.
    """
    if not path:
        return ()
    try:
        lines = [line.strip() for line in Path(path).read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{path}: the tokens cannot be read ({reason}); check it") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise ConfigError(f"{path}: has no token; write one per line")
    for token in tokens:
        if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or " " in token:
            raise ConfigError(
                f"{path}: a token has at least {MIN_TOKEN_LENGTH} ASCII characters and no spaces; "
                'make one with `python -c "import secrets; print(secrets.token_urlsafe())"`'
            )
    return tuple(token.encode() for token in tokens)


class AccessControl:
    """ASGI middleware: refuses requests for other hosts, of other sites' pages, or without token.

    A page of another site could reach this server through the browser of its user: with a name that
    it lets point here (DNS rebinding), or with requests whose answers it cannot read.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, tokens: Sequence[bytes] = ()) -> None:
        """Wrap an application."""
        self._app, self._tokens = app, tokens
        self._origins = set(map(str.lower, config.cors_origin))
        self._names = {"localhost", config.host.lower(), *map(str.lower, config.public_host)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or pass the request on."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ApiError as error:
                await error_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host):
            raise ApiError(
                403,
                "forbidden",
                "this server is not known by that name: start it with --public-host NAME",
                "Host",
            )
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in READING:
            own = f"{scope['scheme']}://{host}".lower()
            # A proxy that ends TLS passes requests on as http.
            own_secure = f"https://{host}".lower()
            if origin.lower() not in (own, own_secure, *self._origins):
                raise ApiError(
                    403,
                    "forbidden",
                    "pages of other sites may not use this server: start it with --cors-origin",
                    "Origin",
                )
        if self._tokens and scope["method"] != "OPTIONS" and not _is_open(scope["path"]):
            self._check_token(headers.get("authorization", ""))

    def _is_known(self, host: str) -> bool:
        """Return whether a Host header has a name of this server, or an IP address."""
        if not (match := _HOST.fullmatch(host)):
            return False
        name = match["name"].lower()
        if name.removesuffix(".") in self._names:
            return True
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _check_token(self, header: str) -> None:
        scheme, _, value = header.partition(" ")
        given = value.strip().encode()
        matches = [hmac.compare_digest(given, token) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            raise ApiError(
                401, "unauthorized", "send a token of this server: `Authorization: Bearer TOKEN`"
            )


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(STATIC_PREFIX)
