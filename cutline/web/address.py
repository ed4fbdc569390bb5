"""Parse web addresses strictly; encode what may not stand in a request."""

import re
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cutline.web.errors import UrlError

_PORTS = {"http": 80, "https": 443}
_MAX_HOST_LENGTH = 253
_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
# `urlsplit` would silently remove some of these.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# In addresses of Azure, the name of a container is in the place of the user.
_USER_INFO = re.compile(r"(?<!\babfs)(?<!\babfss)(?<!\badl)(?<!\baz)://[^/?#]*@", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE = "%/?:@!$&'()*+,;=[]~"
"""besides letters, digits and `_.-`, what stands in a request as it is"""


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed http or https address."""

    scheme: str
    host: str
    """in ASCII, lower case; an IPv6 address without brackets"""
    port: int
    target: str
    """path and query, percent-encoded"""
    authorization: str
    """value of the header, from the user and password in the address; empty without"""

    @property
    def authority(self) -> str:
        """Return the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def is_web_address(text: str) -> bool:
    """Return whether a text is an http or https address, though maybe an invalid one."""
    return bool(_WEB_ADDRESS.match(text))


def hide_credentials(url: str) -> str:
    """Return an address without the user and password that it may contain."""
    return _USER_INFO.sub("://…@", url)


def parse_url(text: str) -> Url:
    """Parse an address, as people write them: with spaces and letters of any script.

    Raises:
        UrlError: It is no valid http or https address.
    """
    if _CONTROL.search(text) or text != text.strip():
        raise UrlError("it contains control characters, or spaces around it; remove them")
    if not is_web_address(text):
        raise UrlError("not an http or https address; give another one")
    try:
        return _parse(urlsplit(text))
    except ValueError:  # whose messages may contain the password
        raise UrlError("not a valid address; correct it") from None


def _parse(parts: SplitResult) -> Url:
    if "\\" in parts.netloc:  # a slash to browsers
        raise ValueError
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    target = _encode(parts.path) or "/"
    if parts.query:
        target += f"?{_encode(parts.query)}"
    host = _encode_host(parts.hostname or "")
    return Url(parts.scheme, host, port, target, _encode_credentials(parts))


def _encode_host(host: str) -> str:
    """Return a host in ASCII. Raises ValueError for one that is invalid."""
    if ":" in host and "%" not in host:
        return str(IPv6Address(host))
    if len(host) > _MAX_HOST_LENGTH:
        raise ValueError
    encoded = host.encode("idna").decode("ascii").lower()
    if not _HOST.fullmatch(encoded):
        raise ValueError
    return encoded


def _encode(text: str) -> str:
    """Percent-encode a path or query; what is encoded already stays as it is."""
    return quote(_STRAY_PERCENT.sub("%25", text), _SAFE, errors="surrogateescape")


def _encode_credentials(parts: SplitResult) -> str:
    if not parts.username:
        return ""
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(credentials.encode()).decode()}"
