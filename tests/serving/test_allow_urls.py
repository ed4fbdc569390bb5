"""Addresses in requests: none without leave, none of the server's own network, at no redirect."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from random_captioner import make_captioner
from raw_http import make_png
from starlette.testclient import TestClient
from web_server import Handler, WebServer, redirect, send, send_raw

from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.serving import fetcher
from cutline.serving.app import make_app
from cutline.serving.service import CaptionService, ServedModels
from cutline.web import fetch
from cutline.web.errors import UNKNOWN_HOST

PNG = make_png()
HEAD = b"HTTP/1.1 200 OK\r\n"
IMAGE_BYTES = 100_000
BODY_BYTES = 250_000
Start = Callable[..., TestClient]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Return a function that starts a server that fetches addresses."""
    captioner = make_captioner()
    services = []

    def start(*allowed: str, timeout: float = 5, **limits: Any) -> TestClient:
        config = ServeConfig(allow_urls=True)
        sizes = {"max_image_bytes": IMAGE_BYTES, "max_body_bytes": BODY_BYTES}
        policy = UrlPolicy(allowed, timeout=timeout, max_redirects=3)
        service = CaptionService("tiny", config, ServeLimits(**sizes | limits), policy)
        service.start(ServedModels(captioner), batch_size=4)
        services.append(service)
        return TestClient(make_app(service), "http://localhost")

    yield start
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def strict(start: Start) -> TestClient:
    """Return a server that may not reach this machine."""
    return start()


@pytest.fixture(scope="module")
def local(start: Start) -> TestClient:
    """Return a server that may reach 127.0.0.1, and no other private host."""
    return start("127.0.0.1")


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as web:
        web.answers["/a.jpg"] = send(PNG)
        yield web


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF", (0.01, 0.02))


def ask(client: TestClient, *urls: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Return the status of a request for captions, and its content."""
    response = client.post(
        "/v1/captions", json={"images": [{"url": url} for url in urls], **fields}
    )
    return response.status_code, response.json()


def refuse(client: TestClient, url: str) -> str:
    """Return the message of a request whose address is refused."""
    status, content = ask(client, url)
    assert status == 422, content
    error = content["error"]
    assert (error["type"], error["param"]) == ("invalid_url", "images[0].url")
    return str(error["message"])


def test_images_are_fetched(local: TestClient, web: WebServer) -> None:
    web.answers["/old.jpg"] = redirect("/a.jpg")
    status, content = ask(local, web.url(), web.url("/old.jpg"), web.url(host="localhost"))
    assert status == 200
    assert len(content["captions"]) == 3
    headers = web.requests[0][1]
    assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}


def test_nothing_is_fetched_without_leave(web: WebServer) -> None:
    service = CaptionService("tiny", ServeConfig(), ServeLimits(), UrlPolicy(("127.0.0.1",)))
    client = TestClient(make_app(service), "http://localhost")
    status, content = ask(client, web.url())
    assert status == 403
    assert content["error"]["type"] == "forbidden"
    assert web.requests == []


PRIVATE = (
    *("127.0.0.1", "127.0.0.2", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1"),
    *("0", "0.0.0.0", "localhost", "LOCALHOST.", "[::1]", "[::]", "[::ffff:127.0.0.1]"),
    *("[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[0:0:0:0:0:0:0:1]"),
    *("169.254.169.254", "2852039166", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "192.0.0.192", "168.63.129.16"),
    *("[fe80::1]", "[fc00::1]", "224.0.0.1", "255.255.255.255", "user:secret@127.0.0.1"),
)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts_are_refused_in_any_form_without_a_word_about_them(
    strict: TestClient, web: WebServer, host: str
) -> None:
    assert refuse(strict, web.url(host=host)) == UNKNOWN_HOST
    assert web.requests == []


def test_a_private_name_and_none_look_the_same(
    strict: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refuse(strict, "http://name.invalid/a.jpg") == UNKNOWN_HOST
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
    assert refuse(strict, "http://intranet.example/a.jpg") == UNKNOWN_HOST


def test_a_name_with_one_private_address_is_refused(
    strict: TestClient, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = (("93.184.215.14", 80), web.server_address)
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
    assert refuse(strict, "http://rebind.example/a.jpg") == UNKNOWN_HOST
    assert web.requests == []


def test_only_the_networks_that_are_named_can_be_reached(local: TestClient) -> None:
    try:
        other = WebServer("127.0.0.2")
    except OSError:  # not on macOS
        pytest.skip("127.0.0.2 is not an address of this machine")
    with other:
        assert refuse(local, other.url()) == UNKNOWN_HOST
        assert other.requests == []


@pytest.mark.parametrize(
    "target",
    [
        *("http://127.0.0.2/", "http://[::1]/", "http://169.254.169.254/latest", "//10.0.0.1/"),
        *("http://2130706434/", "http://0.0.0.0/", "http://[::ffff:10.0.0.1]/", "http://a.invalid"),
    ],
)
def test_redirects_are_checked_as_the_address_was(
    local: TestClient, web: WebServer, target: str
) -> None:
    web.answers["/b.jpg"] = redirect("/c.jpg")
    web.answers["/c.jpg"] = redirect(target)
    message = refuse(local, web.url("/b.jpg"))
    assert message.endswith(UNKNOWN_HOST)
    assert "allow" not in message


@pytest.mark.parametrize(
    "target",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "data:image/png,x"),
        *(
            "http://",
            "http://a b/",
            "http:///a",
            "javascript:1",
            "http://[::1/",
            "\x00",
            "http:\\x",
        ),
    ],
)
def test_redirects_to_other_schemes_lead_nowhere(
    local: TestClient, web: WebServer, target: str
) -> None:
    web.answers["/b.jpg"] = redirect(target)
    message = refuse(local, web.url("/b.jpg"))
    assert "root:" not in message
    assert refuse(local, target)


def test_redirects_come_to_an_end(local: TestClient, web: WebServer) -> None:
    web.answers["/loop"] = redirect("/loop")
    assert "more than 3 redirects" in refuse(local, web.url("/loop"))
    assert len(web.requests) == 4


def test_an_address_is_used_as_it_was_checked(
    local: TestClient, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server may give another address the second time."""
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", web.server_address)]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers.pop())
    assert ask(local, "http://rebind.example/a.jpg")[0] == 200


def test_the_size_of_images_is_limited_whatever_their_server_says(
    local: TestClient, web: WebServer
) -> None:
    limit = f"more than {IMAGE_BYTES:,} bytes"
    web.answers["/a.jpg"] = send(bytes(IMAGE_BYTES + 1))
    assert limit in refuse(local, web.url())
    web.answers["/a.jpg"] = send_raw(HEAD + b"\r\n", *[bytes(50_000)] * 100)
    assert limit in refuse(local, web.url())
    web.answers["/a.jpg"] = send_raw(HEAD + b"Content-Length: 99999999999\r\n\r\n")
    assert limit in refuse(local, web.url())
    web.answers["/a.jpg"] = send_raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n")
    assert refuse(local, web.url())
    web.answers["/a.jpg"] = send_raw(HEAD + b"X: " + b"a" * 1_000_000)
    assert refuse(local, web.url())


def test_all_images_of_a_request_are_limited_together(local: TestClient, web: WebServer) -> None:
    web.answers["/a.jpg"] = send(PNG + bytes(IMAGE_BYTES - len(PNG)))
    assert ask(local, web.url(), web.url())[0] == 200
    status, content = ask(local, *[web.url()] * 3)
    assert status == 413
    assert f"more than {BODY_BYTES:,} bytes" in content["error"]["message"]
    assert ask(local, web.url())[0] == 200  # what is counted is freed


def test_a_host_that_is_slow_is_left_in_time(start: Start, web: WebServer) -> None:
    client = start("127.0.0.1", timeout=0.3)
    web.answers["/a.jpg"] = send_raw(HEAD, *[b"X"] * 500, pause=0.02)
    begin = time.monotonic()
    assert "not received within 0.3 seconds" in refuse(client, web.url())
    assert time.monotonic() - begin < 5


def test_the_deadline_of_a_request_includes_the_time_to_fetch(
    local: TestClient, web: WebServer
) -> None:
    web.answers["/a.jpg"] = send_raw(HEAD, *[b"X"] * 500, pause=0.02)
    status, content = ask(local, web.url(), deadline=0.2)
    error = content["error"]
    assert (status, error["type"]) == (504, "deadline_exceeded")
    assert error["param"] == "images[0].url"


def test_an_image_that_fails_ends_the_others_and_frees_what_they_count(
    start: Start, web: WebServer
) -> None:
    may_come = threading.Event()

    def answer(handler: Handler) -> None:
        may_come.wait(30)
        send(PNG + bytes(IMAGE_BYTES - len(PNG)))(handler)

    web.answers["/slow"] = answer
    with start("127.0.0.1", max_buffered_bytes=BODY_BYTES) as client:  # in one event loop
        for _ in range(3):
            assert ask(client, web.url("/slow"), web.url("/missing"))[0] == 422
        may_come.set()
        assert {ask(client, web.url("/slow"))[0] for _ in range(5)} == {200}


def test_slow_hosts_cannot_keep_others_waiting_for_long(start: Start, web: WebServer) -> None:
    may_come = threading.Event()

    def answer(handler: Handler) -> None:
        may_come.wait(30)
        send(PNG)(handler)

    web.answers["/slow"] = answer
    num_asked, num_waiting = 2 * fetcher.NUM_FETCHERS, 10
    with (
        start("127.0.0.1", timeout=1.0, max_queue=num_waiting) as client,  # in one event loop
        ThreadPoolExecutor(num_asked) as pool,
    ):
        found = [pool.submit(ask, client, web.url("/slow")) for _ in range(num_asked)]
        statuses = [each.result()[0] for each in found]
        may_come.set()
        assert set(statuses) <= {422, 429, 504}
        assert statuses.count(429) == num_asked - fetcher.NUM_FETCHERS - num_waiting
        assert ask(client, web.url())[0] == 200


def test_errors_of_the_other_server_are_told(local: TestClient, web: WebServer) -> None:
    for status in (404, 500):
        web.answers["/a.jpg"] = send(b"secret", status)
        message = refuse(local, web.url())
        assert f"the server answers {status}" in message
        assert "secret" not in message
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert "cannot be reached" in refuse(local, f"http://127.0.0.1:{port}/")
    web.answers["/a.jpg"] = send(b"no image")
    status, content = ask(local, web.url())
    assert status == 415
    assert content["error"]["param"] == "images[0]"
