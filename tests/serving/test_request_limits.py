"""Limits on a request that arrives, whatever comes of it; and errors that nobody expects."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_captioner import make_captioner
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.serving.app import make_app
from cutline.serving.errors import ApiError, error_response
from cutline.serving.limits import RequestLimits, count_bytes, seconds_since_arrival
from cutline.serving.service import CaptionService, ServedModels

BODY_BYTES, ALL_BYTES = 100, 150
LIMITS = ServeLimits(max_body_bytes=BODY_BYTES, max_buffered_bytes=ALL_BYTES, body_timeout=0.05)
DISCONNECT = {"type": "http.disconnect"}

chunks = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, and with what it says it needs besides."""
    body = await Request(scope, receive).body()
    response = Response(body)
    try:
        count_bytes(len(body) // 2)
    except ApiError as error:  # as FastAPI does
        response = error_response(error, scope)
    await response(scope, receive, send)


class Exchange:
    """A request, and what it is answered.

    Attributes:
        status: The status of the response; 0 without.
        body: Its body.
    """

    def __init__(self, parts: Sequence[bytes], is_complete: bool = True, **headers: str) -> None:
        self.messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": index < len(parts) - is_complete}
            for index, part in enumerate(parts)
        ]
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(name.encode(), value.encode()) for name, value in named],
        }
        self.status, self.body = 0, b""

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.sleep(10)
        return DISCONNECT

    async def send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")

    async def run(self, app: ASGIApp) -> None:
        await app(self.scope, self.receive, self.send)

    @property
    def error_type(self) -> str:
        return str(json.loads(self.body)["error"]["type"])


def run(exchange: Exchange, app: ASGIApp = echo) -> RequestLimits:
    """Run a request; afterwards, nothing may be counted as used."""
    limits = RequestLimits(app, LIMITS)
    asyncio.run(exchange.run(limits))
    assert limits._memory.total == 0
    return limits


@given(chunks, st.booleans())
def test_a_body_passes_whole_or_not_at_all(parts: list[bytes], has_length: bool) -> None:
    body = b"".join(parts)
    headers = {"content_length": str(len(body))} if has_length else {}
    exchange = Exchange(parts, **headers)
    run(exchange)
    if len(body) + len(body) // 2 <= BODY_BYTES:
        assert (exchange.status, exchange.body) == (200, body)
    else:
        assert (exchange.status, exchange.error_type) == (413, "too_large")


@given(chunks)
def test_a_client_that_leaves_meanwhile_runs_nothing(parts: list[bytes]) -> None:
    exchange = Exchange(parts, is_complete=False)
    exchange.messages.append(DISCONNECT)

    async def fail(*_: object) -> None:
        raise AssertionError

    run(exchange, fail)
    assert exchange.status in (0, 413)


def test_a_client_that_leaves_later_ends_the_application() -> None:
    ended = []

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    exchange = Exchange([b"x"])
    exchange.messages.append(DISCONNECT)
    run(exchange, wait)
    assert ended == [True]
    assert exchange.status == 0


def test_a_body_must_arrive_in_time() -> None:
    exchange = Exchange([b"x"], is_complete=False)
    run(exchange)
    assert (exchange.status, exchange.error_type) == (408, "timeout")


def test_the_time_to_arrive_is_not_the_time_to_answer() -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(3 * LIMITS.body_timeout)
        await echo(scope, receive, send)

    exchange = Exchange([b"x"])
    run(exchange, answer)
    assert (exchange.status, exchange.body) == (200, b"x")


def test_time_counts_from_the_arrival_of_the_whole_request() -> None:
    found = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        found.append(seconds_since_arrival())
        await Response(b"")(scope, receive, send)

    run(Exchange([b"x"]), answer)
    assert 0.04 < found[0] < 5
    assert seconds_since_arrival() == 0


def test_all_requests_together_are_limited() -> None:
    """Two fit, a third does not; when one has ended, it does."""
    gate = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await Response(b"")(scope, receive, send)

    async def check() -> None:
        limits = RequestLimits(wait, LIMITS)
        first, second, third, fourth = (Exchange([bytes(ALL_BYTES // 2)]) for _ in range(4))
        running = [asyncio.create_task(each.run(limits)) for each in (first, second)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        third.messages.append(DISCONNECT)  # else the rest of its body is awaited
        await third.run(limits)
        assert (third.status, third.error_type) == (429, "queue_full")
        gate.set()
        await asyncio.gather(*running)
        assert first.status == second.status == 200
        await fourth.run(limits)
        assert fourth.status == 200
        assert limits._memory.total == 0

    asyncio.run(check())


def test_a_length_and_an_encoding_are_one_too_many() -> None:
    exchange = Exchange([b"x"], content_length="1", transfer_encoding="chunked")
    run(exchange)
    assert exchange.status == 400


def test_lengths_are_believed_only_if_they_are_too_large() -> None:
    for length, status in (("9" * 5000, 413), ("101", 413), ("0", 200), ("²", 200), ("", 200)):
        exchange = Exchange([b"x"], content_length=length)
        run(exchange)
        assert exchange.status == status, length


# Errors that nobody expects


def test_an_unexpected_error_is_logged_once_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = CaptionService("tiny", ServeConfig(), ServeLimits(), UrlPolicy())
    service.start(ServedModels(make_captioner()), batch_size=1)
    service.name = Path("/srv/secret")  # type: ignore[assignment]  # which JSON cannot hold
    client = TestClient(make_app(service), "http://localhost")
    response = client.get("/v1/models")
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "internal_error"
    assert "secret" not in response.text
    assert [record.message for record in caplog.records] == ["a request failed"]
    assert "is not JSON serializable" in caplog.text
    assert 'cutline_errors_total{type="internal_error"} 1.0' in client.get("/metrics").text
    assert service.num_active == 0
    service.close()


def test_refused_requests_are_counted_by_type() -> None:
    service = CaptionService("tiny", ServeConfig(), ServeLimits(max_body_bytes=9), UrlPolicy())
    client = TestClient(make_app(service, [b"first-token"]), "http://localhost")
    headers = {"Authorization": "Bearer first-token"}
    client.post("/v1/captions")
    client.post("/v1/captions", headers={"Host": "rebind.example"})
    client.post("/v1/captions", content=bytes(10), headers=headers)
    client.get("/none", headers=headers)
    metrics = client.get("/metrics", headers=headers).text
    for kind in ("unauthorized", "forbidden", "too_large", "not_found"):
        assert f'cutline_errors_total{{type="{kind}"}} 1.0' in metrics
