"""Settings of fetching web addresses."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from cutline.config.validation import Settings, reject, require_at_least, require_positive
from cutline.messages import format_value

MAX_TIMEOUT = 86_400
"""in seconds: a day; the operating system has a limit"""
MAX_REDIRECTS = 100
"""redirects of one address"""


@dataclass(frozen=True)
class UrlPolicy(Settings):
    """Which web addresses are fetched, and within which limits."""

    allow_private_hosts: tuple[str, ...] = ()
    """networks that may be reached although they are not public, such as 127.0.0.1 or
    10.0.0.0/8"""
    timeout: float = 30
    """seconds for an image, redirects and retries included; for a shard or table, seconds to open
    it and of each wait for more of it"""
    max_redirects: int = 5
    """redirects that are followed"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "timeout", maximum=MAX_TIMEOUT)
        require_at_least(self, 0, "max_redirects", maximum=MAX_REDIRECTS)
        for network in self.allow_private_hosts:
            try:
                ip_network(network)
            except ValueError:
                hint = "must be networks such as 127.0.0.1 or 10.0.0.0/8"
                reject(self, "allow_private_hosts", f"{hint}, not {format_value(network)}")

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks of `allow_private_hosts`."""
        return tuple(map(ip_network, self.allow_private_hosts))
