"""Fetching from a real server on this machine, which keeps to the rules or breaks them."""

import gzip
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from certificates import make_certificate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_server import Answer, WebServer, redirect, send, send_raw

from cutline.config import UrlPolicy
from cutline.web import UrlError, connection, fetch, fetch_url, stream_url

LOCAL = UrlPolicy(("127.0.0.0/8", "::1"), timeout=5)
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF", (0.01, 0.02))


def get(url: str, policy: UrlPolicy = LOCAL, max_bytes: int = 1_000_000) -> bytes:
    return fetch_url(url, policy, max_bytes)


def answer(server: WebServer, *answers: Answer) -> str:
    """Let the server give these answers, and return the address."""
    server.answers["/a.jpg"] = list(answers)
    return server.url()


def test_an_image_is_fetched(server: WebServer) -> None:
    body = bytes(range(256)) * 3000
    assert get(answer(server, send(body))) == body
    ((path, headers),) = server.requests
    assert path == "/a.jpg"
    assert headers == {
        "Host": f"127.0.0.1:{server.server_address[1]}",
        "User-Agent": "cutline",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def test_bodies_may_come_in_any_form(server: WebServer) -> None:
    chunked = (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\n, w\r\n0\r\nA: b\r\n\r\n"
    )
    assert get(answer(server, send_raw(chunked))) == b"hello, w"
    assert get(answer(server, send_raw(HEAD + b"\r\n", b"to the end"))) == b"to the end"
    assert get(answer(server, send_raw(HEAD + b"Content-Length: 3\r\n\r\nabcdef"))) == b"abc"
    assert get(answer(server, send(b""))) == b""
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert get(answer(server, send_raw(go_on + HEAD + b"Content-Length: 1\r\n\r\nx"))) == b"x"


def test_special_characters_and_credentials_are_sent(server: WebServer) -> None:
    server.answers["/%E1%BA%A3nh%201.jpg?a=%C3%A9"] = send()
    url = server.url("/ảnh 1.jpg?a=é#x").replace("//", "//me:secret@")
    assert get(url) == b"image"
    assert server.requests[0][1]["Authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize("url", ["http://localhost", "http://127.0.0.1", "https://localhost:1"])
def test_this_machine_is_refused_by_default(url: str) -> None:
    with pytest.raises(UrlError, match=r"a private host \((127\.0\.0\.1|::1)\).*--allow-private"):
        get(url, UrlPolicy())


def test_the_host_stands_in_the_request_though_its_address_is_used(server: WebServer) -> None:
    server.answers["/a.jpg"] = send()
    assert get(server.url(host="localhost")) == b"image"
    assert server.requests[0][1]["Host"].startswith("localhost:")


def test_ipv6_addresses_are_fetched() -> None:
    try:
        server = WebServer("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert get(answer(server, send())) == b"image"
        with pytest.raises(UrlError, match=r"private host \(::1\)"):
            get(server.url(), UrlPolicy(("127.0.0.1",)))


def test_each_address_of_a_host_is_tried(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        addresses = (unused.getsockname(), server.server_address)
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(connection, "find_addresses", lambda *args: infos)
        assert get(answer(server, send())) == b"image"


def test_the_address_that_was_checked_is_the_one_that_is_used(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server may give another address the second time."""
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.server_address)]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers.pop())
    server.answers["/a.jpg"] = send()
    assert get(f"http://a.org:{server.server_address[1]}/a.jpg") == b"image"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: WebServer, status: int) -> None:
    server.answers["/c/d.jpg"] = send(b"moved")
    for location in ("/c/d.jpg", "c/d.jpg#x", server.url("/c/d.jpg")):
        assert get(answer(server, redirect(location, status))) == b"moved"


def test_redirects_in_utf8_are_followed(server: WebServer) -> None:
    server.answers["/%E1%BA%A3nh%20x.jpg"] = send()
    url = answer(server, redirect("/ảnh x.jpg".encode().decode("latin-1")))
    assert get(url) == b"image"


def test_redirects_are_counted(server: WebServer) -> None:
    for number in range(9):
        server.answers[f"/{number}"] = redirect(f"/{number + 1}")
    server.answers["/9"] = send()
    assert get(server.url("/4")) == b"image"
    for path in ("/3", "/0"):
        with pytest.raises(UrlError, match="more than 5 redirects"):
            get(server.url(path))
    server.answers["/loop"] = redirect("/loop")
    with pytest.raises(UrlError, match="more than 2 redirects"):
        get(server.url("/loop"), UrlPolicy(("127.0.0.1",), max_redirects=2))
    with pytest.raises(UrlError, match="more than 0 redirects"):
        get(server.url("/8"), UrlPolicy(("127.0.0.1",), max_redirects=0))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://127.0.0.2/x", r"redirects to http://127\.0\.0\.2/x: a private host"),
        ("http://me:secret@10.0.0.1/", r"redirects to http://…@10\.0\.0\.1/: a private host"),
        ("//169.254.169.254/latest/meta-data", "a private host"),
        ("http://[::ffff:7f00:2]/", "a private host"),
        ("file:///etc/passwd", "not an http or https address"),
        ("ftp://127.0.0.1/x", "not an http or https address"),
        ("http://[", "invalid address"),
        ("http://a b/", "not a valid address"),
        ("/missing", r"redirects to \S+/missing: the server answers 404 Not Found"),
    ],
)
def test_redirects_are_checked(server: WebServer, location: str, message: str) -> None:
    with pytest.raises(UrlError, match=message):
        get(answer(server, redirect(location)), UrlPolicy(("127.0.0.1",)))


@pytest.mark.parametrize("status", [204, 206, 300, 304, 400, 401, 403, 404, 410])
def test_other_answers_are_errors_at_once(server: WebServer, status: int) -> None:
    with pytest.raises(UrlError, match=rf"^the server answers {status} \w+.*; check the address$"):
        get(answer(server, send(b"", status)))


@pytest.mark.parametrize(
    "failure",
    [
        send(b"", 503),
        send(b"", 500),
        send(b"", 429, Retry_After="0"),
        send(b"", 503, Retry_After="soon"),
        send(b"", 503, Retry_After=format_datetime(datetime.now(UTC) - timedelta(9))),
        send_raw(),
        send_raw(HEAD + b"Content-Length: 9\r\n\r\nhalf"),
        send_raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe"),
        send_raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ],
)
def test_temporary_failures_are_tried_again(server: WebServer, failure: Answer) -> None:
    assert get(answer(server, failure, failure, send())) == b"image"
    with pytest.raises(UrlError, match=r"; try again later$"):
        get(answer(server, failure, failure, failure, send()))
    assert len(server.requests) == 6


def test_truncated_bodies_are_errors(server: WebServer) -> None:
    answer(server, *[send_raw(HEAD + b"Content-Length: 9\r\n\r\nhalf")] * 3)
    with pytest.raises(UrlError, match=r"^it ends after 4 of 9 bytes"):
        get(server.url())


def test_a_server_may_say_when_to_try_again(server: WebServer) -> None:
    url = answer(server, send(b"", 429, Retry_After="1"), send())
    start = time.monotonic()
    assert get(url) == b"image"
    assert time.monotonic() - start >= 1
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1))
    for delay in ("60", later, "9" * 500):
        start = time.monotonic()
        with pytest.raises(UrlError, match="429"):
            get(answer(server, send(b"", 429, Retry_After=delay), send()))
        assert time.monotonic() - start < 1


DRIPS = {
    "headers": send_raw(HEAD, *[b"X"] * 200, pause=0.02),
    "status": send_raw(*[b"H"] * 200, pause=0.02),
    "body": send_raw(HEAD + b"Content-Length: 999\r\n\r\n", *[b"x"] * 200, pause=0.02),
    "endless body": send_raw(HEAD + b"\r\n", *[b"x"] * 200, pause=0.02),
    "chunk size": send_raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"0"] * 200, pause=0.02),
    "continue": send_raw(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 200, pause=0.02),
    "silence": send_raw(b"", b"", pause=1.5),
}


@pytest.mark.parametrize("case", DRIPS)
def test_slow_servers_are_left_at_the_limit(server: WebServer, case: str) -> None:
    url = answer(server, DRIPS[case], DRIPS[case])
    start = time.monotonic()
    with pytest.raises(UrlError, match=r"not received within 0\.3 seconds"):
        get(url, UrlPolicy(("127.0.0.1",), timeout=0.3))
    assert 0.25 < time.monotonic() - start < 1


def test_servers_that_do_not_accept_are_left_at_the_limit() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.raises(UrlError, match="within"):
            get(f"http://127.0.0.1:{port}/", UrlPolicy(("127.0.0.1",), timeout=0.2))
        with pytest.raises(UrlError, match="within"):  # nobody answers the TLS handshake
            get(f"https://127.0.0.1:{port}/", UrlPolicy(("127.0.0.1",), timeout=0.2))


def test_sizes_are_limited(server: WebServer) -> None:
    body = b"x" * 1000
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + body + b"\r\n0\r\n\r\n"
    for whole in (send(body), send_raw(HEAD + b"\r\n" + body), send_raw(chunked)):
        assert get(answer(server, whole), max_bytes=1000) == body
        with pytest.raises(UrlError, match=r"it has more than 999 bytes; remove it"):
            get(answer(server, whole), max_bytes=999)
    huge = send_raw(HEAD + b"Content-Length: %d\r\n\r\n" % 10**15)
    with pytest.raises(UrlError, match="more than"):
        get(answer(server, huge))


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        HEAD + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        HEAD + b"A: b\r\n" * 1000 + b"\r\n",
    ],
)
def test_what_is_not_http_is_an_error(server: WebServer, content: bytes) -> None:
    with pytest.raises(UrlError, match=r"^the answer is not valid HTTP \("):
        get(answer(server, send_raw(content)))


@given(st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_answer_gives_bytes_or_an_error(server: WebServer, data: st.DataObject) -> None:
    """The answers are two valid ones with a random change."""
    length = HEAD + b"Content-Length: 5\r\nLocation: /b\r\n\r\nimage"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\nA: b\r\n\r\n2\r\nim\r\n3\r\nage\r\n0\r\n\r\n"
    content = data.draw(st.sampled_from((length, chunked, length.replace(b"200", b"302"))))
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(start + 5, len(content))))
    changed = content[:start] + data.draw(st.binary(max_size=5)) + content[end:]
    server.answers["/a.jpg"] = send_raw(changed)
    with suppress(UrlError):
        assert isinstance(get(server.url()), bytes)


def test_compressed_images_are_refused(server: WebServer) -> None:
    url = answer(server, send(gzip.compress(b"image"), Content_Encoding="gzip"))
    with pytest.raises(UrlError, match=r"^sent with compression \(gzip\)"):
        get(url)


def test_hosts_that_cannot_be_reached_are_named_errors() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UrlError, match=r"cannot be reached \("):
            get(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    with pytest.raises(UrlError, match="the host is not found"):
        get("http://host.invalid/")


def test_proxies_are_not_used(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(answer(server, send())) == b"image"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_certificates_are_verified(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, context: names.append(name)
    with WebServer(context=context) as server:
        server.answers["/a.jpg"] = send(b"x" * 100_000)
        with pytest.raises(UrlError, match=r"TLS certificate is invalid \(self.signed"):
            get(server.url())
        connection._tls_context.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        names.clear()
        assert get(server.url(host="localhost")) == get(server.url()) == b"x" * 100_000
        assert names == ["localhost", None]
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.server_address)]
        monkeypatch.setattr(connection, "find_addresses", lambda *args: infos)
        with pytest.raises(UrlError, match=r"TLS certificate is invalid \(Hostname mismatch"):
            get(server.url(host="a.org"))
    connection._tls_context.cache_clear()


def test_http_servers_are_no_tls_servers(server: WebServer) -> None:
    with pytest.raises(UrlError, match="the TLS connection fails"):
        get(server.url().replace("http:", "https:"))


def test_streams_are_read_piece_by_piece(server: WebServer) -> None:
    body = bytes(range(256)) * 5000
    url = answer(server, redirect("/big"), redirect("/big"))
    server.answers["/big"] = send(body)
    with stream_url(url, LOCAL) as stream:
        assert stream.read(5) + stream.read(1_000_000) + stream.read() == body
        assert stream.read(1) == b""
    with stream_url(url, LOCAL) as stream:
        assert b"".join(stream) == body


def test_streams_have_a_limit_for_each_wait(server: WebServer) -> None:
    policy = UrlPolicy(("127.0.0.1",), timeout=0.4)
    drip = send_raw(HEAD + b"Content-Length: 6\r\n\r\n", *[b"x"] * 6, pause=0.1)
    with stream_url(answer(server, drip), policy) as stream:
        assert stream.read() == b"xxxxxx"
    truncated = send_raw(HEAD + b"Content-Length: 6\r\n\r\nx", b"x", pause=0.3)
    stalled = send_raw(HEAD + b"Content-Length: 6\r\n\r\nx", b"y", pause=2)
    with (
        stream_url(answer(server, truncated), policy) as stream,
        pytest.raises(UrlError, match="it ends after 2 of 6 bytes"),
    ):
        stream.read()
    with (
        stream_url(answer(server, stalled), policy) as stream,
        pytest.raises(UrlError, match=r"not received within 0\.4 seconds"),
    ):
        stream.read()


def test_streams_are_checked_as_images_are(server: WebServer) -> None:
    with pytest.raises(UrlError, match="private"):
        stream_url(answer(server, redirect("http://10.0.0.1/")), LOCAL)
    with pytest.raises(UrlError, match="404"):
        stream_url(server.url("/missing"), LOCAL)
    with stream_url(answer(server, send(b"", 503), send()), LOCAL) as stream:
        assert stream.read() == b"image"
    drip = send_raw(HEAD, *[b"X"] * 200, pause=0.02)
    with pytest.raises(UrlError, match="within"):
        stream_url(answer(server, drip), UrlPolicy(("127.0.0.1",), timeout=0.2))
