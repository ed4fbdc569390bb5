"""Which addresses are public."""

import socket
import threading
from ipaddress import ip_address

import pytest

from cutline.config import UrlPolicy
from cutline.errors import ConfigError
from cutline.web import UrlError, hosts
from cutline.web.hosts import find_addresses, is_allowed, is_public

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1")
PRIVATE = (
    "0.0.0.0",
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "127.9.9.9",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
)


def test_private_addresses_are_told_from_public_ones() -> None:
    assert [text for text in PUBLIC if not is_public(ip_address(text))] == []
    assert [text for text in PRIVATE if is_public(ip_address(text))] == []
    assert not is_public(ip_address("fe80::1%eth0"))


def test_networks_are_allowed_in_every_form_of_their_addresses() -> None:
    policy = UrlPolicy(("127.0.0.0/8", "fd00::/8"))
    for text in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00:ec2::254", "8.8.8.8"):
        assert is_allowed(ip_address(text), policy), text
    for text in ("10.0.0.1", "::1", "fe80::1"):
        assert not is_allowed(ip_address(text), policy), text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0"])
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(OSError, match=r".") as error:  # some systems do not know all of them
        find_addresses(host, 80, UrlPolicy(), 10)
    if isinstance(error.value, UrlError) or host in ("localhost", "127.0.0.1"):
        assert "a private host (" in str(error.value)
        assert " pass --allow-private-hosts " in str(error.value)


def test_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("8.8.8.8", "10.0.0.1")
    ]
    monkeypatch.setattr(hosts.socket, "getaddrinfo", lambda *args, **kwargs: infos)
    with pytest.raises(UrlError, match=r"10\.0\.0\.1"):
        find_addresses("a.org", 80, UrlPolicy(), 10)
    assert find_addresses("a.org", 80, UrlPolicy(("10.0.0.0/8",)), 10) == infos


def test_a_name_server_that_does_not_answer_costs_no_more_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = threading.Event()
    monkeypatch.setattr(hosts.socket, "getaddrinfo", lambda *args, **kwargs: end.wait(10))
    with pytest.raises(TimeoutError):
        find_addresses("a.org", 80, UrlPolicy(), 0.05)
    end.set()


@pytest.mark.parametrize(
    "values",
    [
        {"allow_private_hosts": ("localhost",)},
        {"allow_private_hosts": ("10.1.2.3/8",)},
        {"allow_private_hosts": ("",)},
        {"allow_private_hosts": "127.0.0.1"},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"max_redirects": -1},
    ],
)
def test_invalid_policies_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(values))}"):
        UrlPolicy(**values)  # type: ignore[arg-type]
