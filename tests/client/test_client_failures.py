"""Servers that are full, slow, broken, foreign or not there."""

import json
import re
import ssl
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from answers import Ask, ask_async, make_caption_json, send_captions, send_error
from certificates import make_certificate
from hypothesis import given
from hypothesis import strategies as st
from web_server import Answer, WebServer, send, send_raw

import cutline
from cutline import AsyncClient, Client
from cutline.client import retries
from cutline.client.failures import Failure, read_failure
from cutline.client.retries import Retries
from cutline.config import ClientConfig
from cutline.errors import (
    ConfigError,
    CutlineError,
    DeadlineExceededError,
    ImageError,
    QueueFullError,
)

FULL = send_error(429, "queue_full", "256 requests wait already")
NOT_READY = send_error(503, "not_ready", "the model is being loaded")
DOG = send_captions("a dog")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)


def answer(server: WebServer, *answers: Answer) -> None:
    server.answers["/v1/captions"] = list(answers)


@pytest.mark.parametrize("method", ["caption", "stream"])
def test_a_busy_server_is_asked_again(server: WebServer, ask: Ask, method: str) -> None:
    events = f'event: caption\ndata: {{"caption": {json.dumps(make_caption_json())}}}\n\n'
    success = DOG if method == "caption" else send(events.encode())
    answer(server, FULL, NOT_READY, send(b"<html>busy", 503), success)
    (caption,) = ask(server, method, b"image")
    assert isinstance(caption, cutline.ServedCaption)
    assert len(set(server.bodies)) == 1
    assert len(server.bodies) == 4


def test_retries_are_limited_in_number(server: WebServer, ask: Ask) -> None:
    answer(server, *[FULL] * 10)
    with pytest.raises(QueueFullError, match=r"^256 requests wait already$"):
        ask(server, "caption", b"image", max_retries=2)
    assert len(server.requests) == 3


def test_retries_are_limited_in_time(server: WebServer, ask: Ask) -> None:
    answer(server, *[NOT_READY] * 100)
    start = time.monotonic()
    with pytest.raises(CutlineError, match=r"^the model is being loaded$"):
        ask(server, "caption", b"image", timeout=1, max_retries=1000)
    assert time.monotonic() - start < 3
    assert 2 < len(server.requests) < 100


def test_the_server_says_how_long_to_wait(server: WebServer) -> None:
    answer(server, send_error(429, "queue_full", Retry_After="1"), DOG)
    start = time.monotonic()
    ask_async(server, "caption", b"image")
    assert 1 <= time.monotonic() - start < 2


def test_the_date_of_a_retry_is_that_of_the_clock_of_the_server() -> None:
    for now in (datetime.now(UTC), datetime.now(UTC) - timedelta(days=1)):
        later = now + timedelta(seconds=30)
        headers = {"Date": format_datetime(now, True), "Retry-After": format_datetime(later, True)}
        failure = read_failure(httpx.Response(429, headers=headers), b"", "", ClientConfig())
        assert failure.retry_after == 30
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), True)
    response = httpx.Response(503, headers={"Retry-After": in_a_minute})
    assert 58 < (read_failure(response, b"", "", ClientConfig()).retry_after or 0) <= 60


@pytest.mark.parametrize("value", ["1000", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_beyond_the_time_limit_is_not_begun(server: WebServer, ask: Ask, value: str) -> None:
    answer(server, send_error(429, "queue_full", Retry_After=value), DOG)
    start = time.monotonic()
    with pytest.raises(QueueFullError):
        ask(server, "caption", b"image", timeout=100)
    assert time.monotonic() - start < 5


def test_a_retry_after_that_means_nothing_is_ignored(server: WebServer) -> None:
    values = ("soon", "-5", "", "Thu, 01 Jan 1970 00:00:00 GMT", "\xb2")
    answer(server, *[send_error(429, "queue_full", Retry_After=value) for value in values], DOG)
    with Client(server.url(""), max_retries=len(values), timeout=10) as client:
        assert client.caption(b"image")[0].text == "a dog"


@given(st.integers(0, 12), st.one_of(st.none(), st.floats(0, 20)), st.floats(0.1, 100))
def test_waits_grow_and_fit_the_time_left(
    count: int, retry_after: float | None, timeout: float
) -> None:
    plan = Retries(ClientConfig(timeout=timeout, max_retries=count))
    failure = Failure(QueueFullError("full"), can_retry=True, retry_after=retry_after)
    for number in range(count):
        limit = min(retries.MAX_WAIT, retries.FIRST_WAIT * 2**number)
        try:
            wait = plan.wait_after(failure)
        except QueueFullError:
            assert (retry_after or 0) + limit * 1.5 >= timeout - 1  # which is how long it may take
            return
        assert max(retry_after or 0, limit / 2) <= wait < timeout
        assert wait <= max(limit, (retry_after or 0) + limit / 2)
    with pytest.raises(QueueFullError):
        plan.wait_after(failure)


def test_waits_differ() -> None:
    failure = Failure(QueueFullError("full"), can_retry=True)
    waits = {Retries(ClientConfig()).wait_after(failure) for _ in range(20)}
    assert len(waits) > 10


@pytest.mark.parametrize(
    ("status", "kind", "param", "error"),
    [
        (422, "invalid_image", "images[0]", ImageError),
        (415, "unsupported_media_type", "images[0]", ImageError),
        (413, "too_large", "images[0]", ImageError),
        (413, "too_large", None, ImageError),
        (422, "invalid_request", "num_beams", ConfigError),
        (400, "invalid_request", None, CutlineError),
        (401, "unauthorized", None, CutlineError),
        (500, "internal_error", None, CutlineError),
        (501, "not_available", None, CutlineError),
        (504, "deadline_exceeded", None, DeadlineExceededError),
    ],
)
def test_other_errors_are_not_retried(
    server: WebServer, status: int, kind: str, param: str | None, error: type[CutlineError]
) -> None:
    answer(server, send_error(status, kind, "what is wrong", param), DOG)
    with Client(server.url("")) as client, pytest.raises(error, match=r"what is wrong$") as raised:
        client.caption(b"image")
    assert type(raised.value) is error
    assert len(server.requests) == 1
    assert raised.value.setting == ("num_beams" if error is ConfigError else "")


@pytest.mark.parametrize(
    ("status", "error", "problem"),
    [
        (
            413,
            ImageError,
            r"^https://…@a\.org/b\.jpg: .* answered 413: the request is too large for a proxy",
        ),
        (504, DeadlineExceededError, "answered 504: a proxy has waited too long"),
        (502, CutlineError, "answered 502, but not as `cutline serve` does; check the address"),
        (404, CutlineError, "answered 404, but not as `cutline serve` does"),
        (302, CutlineError, "answered 302, but not as `cutline serve` does"),
    ],
)
def test_answers_of_others(
    server: WebServer, status: int, error: type[CutlineError], problem: str
) -> None:
    bodies = (b"<html>no", b"", b"{}", b'{"error": "no"}', b'{"error": {}}')
    answer(server, *[send(body, status) for body in bodies])
    with Client(server.url("")) as client:
        for _ in bodies:
            with pytest.raises(error) as raised:
                client.caption("https://me:secret@a.org/b.jpg")
            assert type(raised.value) is error
            assert re.search(problem, str(raised.value))
            assert "secret" not in str(raised.value)


def test_nobody_is_there(ask: Ask) -> None:
    with WebServer() as server:
        pass  # its port is closed now
    with pytest.raises(CutlineError) as raised:
        ask(server, "caption", b"image", max_retries=2)
    assert str(raised.value) == (
        f"{server.url('')} cannot be reached (Connection refused): start `cutline serve`, or give "
        "its address as base_url"
    )


def test_a_server_that_starts_late_is_reached(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.2)
    with WebServer() as closed:
        pass
    with ExitStack() as stack:
        late: list[WebServer] = []

        def start() -> None:
            server = WebServer(port=int(closed.server_address[1]))
            late.append(server)
            server.answers["/v1/captions"] = DOG
            stack.enter_context(server)

        timer = threading.Timer(0.1, start)
        timer.start()
        assert ask(closed, "caption", b"image")[0].text == "a dog"
        timer.join()
        assert len(late[0].requests) == 1


def test_a_connection_that_breaks_after_sending_is_not_retried(server: WebServer, ask: Ask) -> None:
    answer(server, send_raw(), DOG)
    with pytest.raises(CutlineError, match=r"the connection failed .*; try again"):
        ask(server, "caption", b"image")
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["caption", "stream"])
def test_a_server_that_does_not_answer(server: WebServer, ask: Ask, method: str) -> None:
    answer(server, send_raw(b"", b"", pause=1), DOG)
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=r"has not answered within 0\.1 s"):
        ask(server, method, b"image", timeout=0.1)
    assert time.monotonic() - start < 0.9
    assert len(server.requests) == 1


def test_a_server_that_answers_byte_by_byte(server: WebServer, ask: Ask) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    answer(server, send_raw(head, *[b" "] * 100, pause=0.02))
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        ask(server, "caption", b"image", timeout=0.2)
    assert time.monotonic() - start < 1


def test_a_token_is_in_no_error(server: WebServer, ask: Ask) -> None:
    answer(server, send(b"no", 401))
    with pytest.raises(CutlineError) as raised:
        ask(server, "caption", b"image", token="hush")
    assert "hush" not in str(raised.value)
    assert "hush" not in repr(ClientConfig(token="hush"))


def test_proxies_are_not_used_for_this_machine(
    server: WebServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    answer(server, DOG)
    assert ask(server, "caption", b"image")[0].text == "a dog"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_a_certificate_of_ones_own(
    certificate: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with WebServer(context=context) as server:
        server.answers["/v1/captions"] = DOG
        with pytest.raises(CutlineError, match=r"TLS .*self.signed.*SSL_CERT_FILE"):
            ask(server, "caption", b"image")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask(server, "caption", b"image")[0].text == "a dog"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("missing.pem")))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE .* cannot be read"):
        ask(server, "caption", b"image")


def test_missing_httpx_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError, match=r"pip install 'cutline\[serve\]'"):
            kind()
