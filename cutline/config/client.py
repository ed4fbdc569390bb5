"""Settings of a client of `cutline serve`."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cutline.config.validation import (
    Settings,
    reject,
    require_at_least,
    require_between,
    require_positive,
)
from cutline.messages import format_value

_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class ClientConfig(Settings):
    """Client: the server, and time limits and retries of requests."""

    base_url: str = "http://127.0.0.1:8000"
    """address of the server, with the path of a reverse proxy if it has one"""
    token: str | None = field(default=None, repr=False)
    """bearer token, if the server has a token file"""
    timeout: float = 120
    """seconds until the caption of an image must be here, retries included; while a caption is
    streamed, seconds to wait for each event"""
    max_retries: int = 5
    """how often a request is sent again while the server is full, not ready or not reached"""
    concurrency: int = 8
    """requests that are sent at once for a list of images"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "timeout", maximum=86_400)
        require_at_least(self, 0, "max_retries", maximum=1000)
        require_between(self, 1, 1000, "concurrency")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            reject(self, "token", "must be ASCII without spaces and line breaks: strip it")
        if problem := _find_problem(self.base_url):
            reject(self, "base_url", f"{problem}, not {format_value(self.base_url)}")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))


def _find_problem(url: str) -> str:
    """Return what is wrong with the address of a server, or ""."""
    try:
        parts = urlsplit(url)
        has_host = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
        return "must be an address such as http://127.0.0.1:8000"
    if parts.query or parts.fragment or parts.username is not None:
        return "must be an address without user, query and fragment"
    return ""
