"""The events of a caption that is being generated."""

import asyncio
import json
import threading
import time
from contextlib import aclosing, closing
from typing import Any

import pytest
from answers import Ask, make_caption_json
from hypothesis import given
from hypothesis import strategies as st
from web_server import Handler, WebServer, send

from cutline import AsyncClient, Client
from cutline.client.events import EventReader
from cutline.client.results import ServedCaption, ServedText
from cutline.errors import CutlineError, ImageError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TEXTS = [("a", " dog"), (" d\u2028g", ""), ("", " é on"), ("\n: \r\ndata: x", "")]


def make_event(event: str, data: Any) -> str:
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def make_text(text: str, draft: str = "", candidate: int = 0) -> str:
    data = {"index": 0, "candidate": candidate, "text": text, "draft": draft}
    return make_event("text", data)


CAPTION = make_event("caption", {"index": 0, "caption": make_caption_json("a dog")})
DONE = make_event("done", {})
EVENTS = ": comment\n\n" + "".join(make_text(*text) for text in TEXTS) + CAPTION + DONE


@given(st.lists(st.integers(0, len(EVENTS.encode()))), st.sampled_from(["\n", "\r\n"]))
def test_events_do_not_depend_on_how_they_arrive(cuts: list[int], line_end: str) -> None:
    data = EVENTS.replace("\n", line_end).encode()
    reader = EventReader("a.jpg", "http://a", draft=True)
    ends = sorted(cuts)
    pieces = [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]
    *texts, caption = [event for piece in pieces for event in reader.read(piece)]
    reader.close()
    assert texts == [ServedText(text, 0, draft) for text, draft in TEXTS]
    assert isinstance(caption, ServedCaption)
    assert caption.text == "a dog"


def test_drafts_are_on_request(server: WebServer, ask: Ask) -> None:
    server.answers["/v1/captions"] = send(EVENTS.encode())
    *texts, caption = ask(server, "stream", b"image")
    assert texts == [ServedText(text) for text, _ in TEXTS if text]
    assert caption.text == "a dog"
    assert json.loads(server.bodies[0])["stream"] is True
    *texts, caption = ask(server, "stream", b"image", draft=True)
    assert [event.draft for event in texts] == [draft for _, draft in TEXTS]


def test_an_error_among_the_events(server: WebServer, ask: Ask) -> None:
    error = {"type": "invalid_image", "message": "not an image", "param": "images[0]"}
    events = make_text("a") + make_event("error", {"index": 0, "error": error}) + DONE
    server.answers["/v1/captions"] = send(events.encode())
    with pytest.raises(ImageError, match=r"^image 0: not an image$"):
        ask(server, "stream", b"image")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (make_text("a"), "ended before the caption"),
        ("", "ended before the caption"),
        ("event: text\ndata: [\n\n", "not as `cutline serve` does"),
        ("event: caption\ndata: {}\n\n", "not as `cutline serve` does"),
        ("event: error\ndata: 1\n\n", "not as `cutline serve` does"),
        ('{"captions": []}', "ended before the caption"),
    ],
)
def test_answers_that_are_no_events(server: WebServer, ask: Ask, events: str, problem: str) -> None:
    server.answers["/v1/captions"] = send(events.encode())
    with pytest.raises(CutlineError, match=problem):
        ask(server, "stream", b"image")


def test_a_stream_that_breaks_is_not_begun_again(server: WebServer, ask: Ask) -> None:
    def answer(handler: Handler) -> None:
        head = HEAD.replace(b"Connection: close", b"Content-Length: 1000")
        handler.write(head + make_text("a").encode())
        handler.close_connection = True

    server.answers["/v1/captions"] = answer
    with pytest.raises(CutlineError, match="the connection failed"):
        ask(server, "stream", b"image")
    assert len(server.requests) == 1


class EndlessEvents:
    """Sends an event whenever asked, and notices when the client has gone."""

    def __init__(self) -> None:
        self.more, self.gone = threading.Semaphore(1), threading.Event()

    def __call__(self, handler: Handler) -> None:
        handler.connection.settimeout(0.01)
        handler.write(HEAD)
        while not self.gone.is_set():
            if self.more.acquire(timeout=0.01):
                handler.write(make_text("a").encode())
            try:
                if not handler.connection.recv(1):
                    self.gone.set()
            except TimeoutError:
                pass
            except OSError:
                self.gone.set()
        handler.close_connection = True


def test_events_come_as_they_are_sent_and_leaving_closes_the_connection(
    server: WebServer,
) -> None:
    server.answers["/v1/captions"] = answer = EndlessEvents()
    with Client(server.url("")) as client, closing(client.stream(b"image")) as events:
        for _ in range(3):
            assert next(events) == ServedText("a")
            answer.more.release()
        assert not answer.gone.is_set()
        events.close()
        assert answer.gone.wait(5)


def test_an_async_task_that_is_cancelled_closes_the_connection(server: WebServer) -> None:
    server.answers["/v1/captions"] = answer = EndlessEvents()

    async def leave() -> None:
        async with AsyncClient(server.url("")) as client:
            async with aclosing(client.stream(b"image")) as events:
                assert await anext(events) == ServedText("a")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.05)
            assert await asyncio.to_thread(answer.gone.wait, 5)

    asyncio.run(leave())


def test_the_generator_left_alone_closes_the_connection(server: WebServer) -> None:
    server.answers["/v1/captions"] = answer = EndlessEvents()
    with Client(server.url("")) as client:
        for _ in client.stream(b"image"):
            break
        assert answer.gone.wait(5)


def test_waits_between_events_are_limited_not_their_sum(server: WebServer) -> None:
    def answer(handler: Handler) -> None:
        handler.write(HEAD)
        for event in [make_text("a")] * 2 + [CAPTION + DONE]:
            time.sleep(0.1)
            handler.write(event.encode())
        handler.close_connection = True

    server.answers["/v1/captions"] = answer
    with Client(server.url(""), timeout=0.25) as client:
        assert len(list(client.stream(b"image"))) == 3
