"""Addresses as people write them, and as attackers do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.web import UrlError, hide_credentials, is_web_address
from cutline.web.address import parse_url


@pytest.mark.parametrize(
    ("text", "host", "target"),
    [
        ("http://a.org", "a.org", "/"),
        ("HTTPS://A.Org/B c.jpg", "a.org", "/B%20c.jpg"),
        (
            "http://a.org/a%20b/100%/%zz.jpg?q=a b&r=%41#part",
            "a.org",
            "/a%20b/100%25/%25zz.jpg?q=a%20b&r=%41",
        ),
        ("http://a.org/ảnh\u3000.jpg", "a.org", "/%E1%BA%A3nh%E3%80%80.jpg"),
        ("http://a.org/\udcff.jpg", "a.org", "/%FF.jpg"),
        ("http://bücher.example/", "xn--bcher-kva.example", "/"),
        ("http://ｅxample。com/", "example.com", "/"),
        ("http://a_b.org./x", "a_b.org.", "/x"),
        ("http://[2001:DB8::1]/x?y", "2001:db8::1", "/x?y"),
        ("http://a.org?x=1", "a.org", "/?x=1"),
        ("http://a.org//b\\c", "a.org", "//b%5Cc"),
    ],
)
def test_addresses_are_encoded(text: str, host: str, target: str) -> None:
    url = parse_url(text)
    assert (url.host, url.target) == (host, target)
    again = parse_url(f"{url.scheme}://{url.authority}{url.target}")
    assert again == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.jpg",
        "ftp://a.org/x",
        "file:///etc/passwd",
        "http:/a.org",
        "http://",
        "http:///x",
        " http://a.org/",
        "http://a.org/x\n",
        "http://a.org/\r\nHost: b",
        "http://a\t.org/",
        "http://a.org\\@b.org/",
        "http://a b.org/",
        "http://a%2eorg/",
        "http://a..org/",
        "http://.org/",
        "http://[::1",
        "http://[::1%25eth0]/",
        "http://::1/",
        "http://a.org:port/",
        "http://a.org:65536/",
        "http://a.org:-1/",
        f"http://{'a' * 64}.org/",
        f"http://{'é' * 300}.org/",
        "http://a℀b.org/",
        "http://a.org/\ud800",
    ],
)
def test_invalid_addresses_are_refused(text: str) -> None:
    with pytest.raises(UrlError, match=r"^(it contains|not an? )"):
        parse_url(text)


@given(st.text(max_size=30))
def test_any_text_gives_a_clean_request_or_an_error(text: str) -> None:
    for address in (f"http://{text}", f"http://a.org/{text}"):
        try:
            url = parse_url(address)
        except UrlError:
            continue
        assert url.target.startswith("/")
        sent = url.host + url.target + url.authorization.replace(" ", "")
        assert re.fullmatch(r"[!-~]*", sent)


def test_ports_are_named_unless_they_are_the_usual_ones() -> None:
    urls = ("http://a.org:80", "https://a.org:443", "http://a.org:443", "http://[::1]:8080")
    assert [parse_url(url).authority for url in urls] == [
        "a.org",
        "a.org",
        "a.org:443",
        "[::1]:8080",
    ]


def test_credentials_are_sent_and_hidden() -> None:
    url = "http://user:p%40ss:w@ord@a.org/x@y"
    assert parse_url(url).host == "a.org"
    assert parse_url("http://user:p%40ss@a.org/").authorization == "Basic dXNlcjpwQHNz"
    assert hide_credentials(url) == "http://…@a.org/x@y"
    assert hide_credentials("http://a.org/@me?x=y@z") == "http://a.org/@me?x=y@z"
    assert hide_credentials("a.csv/FTP://u:p@h/x") == "a.csv/FTP://…@h/x"
    for container in ("abfs://c@a.dfs.core.windows.net/x", "ABFSS://c@a/x", "az://c@a/x"):
        assert hide_credentials(container) == container
    with pytest.raises(UrlError) as error:
        parse_url("http://user:secret@a.org:secret/")
    assert "secret" not in str(error.value)


def test_web_addresses_are_recognized() -> None:
    assert all(map(is_web_address, ("HTTP://a", "https://a b")))
    assert not any(map(is_web_address, ("http:/a", "s3://a", "a/http://b", "")))
