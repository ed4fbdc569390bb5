"""Look up hosts, and refuse those that are not public.

Otherwise, an address in a dataset could make this machine read what only its own network may see.
"""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

from cutline.config import UrlPolicy
from cutline.web.errors import UNKNOWN_HOST, UrlError

AddressInfo: TypeAlias = tuple[Any, ...]
"""family, type, protocol, name and socket address, as `socket.getaddrinfo` returns them"""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_CLOUD_NETWORKS = (IPv4Network("168.63.129.16"), IPv4Network("192.0.0.0/24"))
"""where machines in a cloud ask for their settings and keys; older Pythons call them public"""


def find_addresses(host: str, port: int, policy: UrlPolicy, seconds: float) -> list[AddressInfo]:
    """Look up a host, and check all of its addresses.

    Args:
        host: Name or IP address.
        port: The port.
        policy: Says which addresses are allowed although they are not public.
        seconds: Time limit.

    Raises:
        UrlError: One of the addresses is not allowed.
        OSError: There is no such host, or the time is over.
    """
    infos = _look_up(host, port, seconds)
    for info in infos:
        address = ip_address(info[4][0])
        if not is_allowed(address, policy):
            text = str(address).partition("%")[0]
            raise UrlError(
                f"a private host ({text}); "
                f"if you trust it, pass --allow-private-hosts {text} (in Python, "
                f"allow_private_hosts=[{text!r}])",
                public=UNKNOWN_HOST,
            )
    return infos


def _look_up(host: str, port: int, seconds: float) -> list[AddressInfo]:
    """Call `getaddrinfo`, which has no time limit, in a thread that may outlive this call."""
    answers: SimpleQueue[list[AddressInfo] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def is_allowed(address: IPv4Address | IPv6Address, policy: UrlPolicy) -> bool:
    """Return whether an address is public, or in one of the networks that the policy allows."""
    forms = (address, embedded_ipv4(address) or address)
    networks = policy.networks
    return is_public(address) or any(form in network for form in forms for network in networks)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address belongs to one host of the internet."""
    if isinstance(address, IPv4Address):
        is_internal = any(address in network for network in _CLOUD_NETWORKS)
        return address.is_global and not address.is_multicast and not is_internal
    if inner := embedded_ipv4(address):
        return is_public(inner)
    return address.is_global and address in _GLOBAL_UNICAST


def embedded_ipv4(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address to which a gateway, or this machine, would send instead, if any."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
