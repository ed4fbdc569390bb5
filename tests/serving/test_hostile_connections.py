"""Clients that are slow, that leave, or that break HTTP: others are served meanwhile."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from forked_server import ForkedServer, fork_server
from random_captioner import save_captioner
from raw_http import (
    connect,
    count_work,
    exchange,
    find_error,
    head,
    make_png,
    post,
    read_metric,
    read_to_end,
    statuses,
    to_json,
    wait_until,
)
from serving_process import read_url

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PNG = make_png()
SLOW = {"num_beams": 8, "max_length": 48, "min_length": 48}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_captioner(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[ForkedServer]:
    """Return a server with short time limits; after all tests, it must be as it was."""
    times = ("--header-timeout", "1", "--body-timeout", "1", "--send-timeout", "1")
    queue = ("--max-queue", "2", "--batch-size", "1", "--max-connections", "1100")
    with fork_server(tmp_path_factory.mktemp("server"), model, *times, *queue) as server:
        files = count_files(server)
        caption(server)
        yield server
        caption(server)
        wait_until(lambda: count_files(server) <= files + 2)
        wait_until(lambda: count_work(server.url) == 0)
        assert not list(server.temporary.iterdir())
        assert server.log.count("\n") == 2, server.log  # no traceback


def caption(server: ForkedServer) -> str:
    """Return the caption that the server gives an image."""
    status, _, body = read_url(f"{server.url}/v1/captions", json.loads(to_json(PNG)))
    assert status == 200, body
    return str(json.loads(body)["captions"][0]["text"])


def count_files(server: ForkedServer) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


# HTTP that is not quite HTTP


def test_two_lengths_of_one_body_are_refused(server: ForkedServer) -> None:
    """Else a proxy that believes the other one would let the rest pass as another request."""
    hidden = head(server.url, "GET", "/healthz")
    body = b"0\r\n\r\n" + hidden
    kinds = {"Content_Type": "application/json"}
    for headers in (
        {"Content_Length": len(body), "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "chunked", "Content_Length": 5},
    ):
        answer = exchange(server.url, head(server.url, **kinds, **headers) + body)
        assert statuses(answer) == [400]
        assert "not both" in find_error(answer)["message"]


BROKEN = {
    "two lengths": ({"Content_Length": "5\r\nContent-Length: 6"}, b"[1, 2]"),
    "negative length": ({"Content_Length": "-1"}, b""),
    "length with a sign": ({"Content_Length": "+5"}, b"[1,2]"),
    "length as hex": ({"Content_Length": "0x5"}, b"[1,2]"),
    "other encoding": ({"Transfer_Encoding": "gzip"}, b"[1,2]"),
    "hidden encoding": ({"Transfer_Encoding": "xchunked"}, b"0\r\n\r\n"),
    "two encodings": ({"Transfer_Encoding": "identity, chunked"}, b"0\r\n\r\n"),
    "bad chunk": ({"Transfer_Encoding": "chunked"}, b"zz\r\n"),
    "huge chunk": ({"Transfer_Encoding": "chunked"}, b"f" * 30 + b"\r\n"),
    "negative chunk": ({"Transfer_Encoding": "chunked"}, b"-1\r\n"),
    "space in a name": ({"X y": "1"}, b""),
    "NUL in a value": ({"X": "a\0b"}, b""),
    "two hosts": ({"X": "y\r\nHost: other.example"}, b""),
    "huge header": ({"X": "a" * 1_000_000}, b""),
    "very many headers": ({"X": "y" + "\r\nA: b" * 200_000}, b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests_are_refused_in_the_shape_of_our_errors(
    server: ForkedServer, name: str
) -> None:
    headers, body = BROKEN[name]
    answer = exchange(server.url, head(server.url, **headers) + body + head(server.url, "GET", "/"))
    assert statuses(answer) == [400], answer
    assert find_error(answer)["type"] == "invalid_request"


def test_a_body_that_breaks_while_it_is_refused_closes_the_connection(
    server: ForkedServer,
) -> None:
    start = head(server.url, Host="other.example", Transfer_Encoding="chunked")
    answer = exchange(server.url, start + b"1\r\n[\r\n", b"zz\r\n", pause=0.1)
    assert statuses(answer) in ([403], [403, 400])
    start = head(server.url, Transfer_Encoding="chunked")
    answer = exchange(server.url, start + b"1\r\n[\r\n", b"zz\r\n", pause=0.1)
    assert statuses(answer) == [400]


def test_other_versions_of_http(server: ForkedServer) -> None:
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    assert set(statuses(exchange(server.url, http2))) <= {400, 403}
    host = head(server.url, "GET", "/healthz")[len("GET /healthz HTTP/1.1") :]
    assert statuses(exchange(server.url, b"GET /healthz HTTP/1.0" + host)) == [200]
    assert statuses(exchange(server.url, b"GET /healthz HTTP/1.0\r\n\r\n")) == [403]
    assert set(statuses(exchange(server.url, b"GET /\r\n\r\n"))) <= {400}
    upgrade = {"Connection": "Upgrade, close", "Upgrade": "h2c"}
    assert statuses(exchange(server.url, head(server.url, "GET", "/healthz", **upgrade))) == [200]


def test_a_client_that_asks_first_is_told_to_go_on_or_not(server: ForkedServer) -> None:
    body = to_json(PNG)
    headers = {"Content_Type": "application/json", "Expect": "100-continue", "Connection": "close"}
    with connect(server.url) as sock:
        sock.sendall(head(server.url, Content_Length=len(body), **headers))
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(body)
        assert statuses(read_to_end(sock)) == [200]
    with connect(server.url) as sock:
        sock.sendall(head(server.url, Content_Length=1 << 40, **headers))
        assert statuses(read_to_end(sock)) == [413]


def test_requests_that_follow_each_other_are_answered_in_order(server: ForkedServer) -> None:
    paths = ("/healthz", "/none", "/healthz", "/v1/info") * 5
    requests = b"".join(head(server.url, "GET", path) for path in paths)
    answer = exchange(server.url, requests + post(server.url, to_json(PNG)))
    assert statuses(answer) == [404 if path == "/none" else 200 for path in (*paths, "")]
    assert b'"captions":[{' in answer


# Slow clients


def test_slow_headers_and_bodies_are_ended_in_time(server: ForkedServer) -> None:
    url, start = server.url, time.monotonic()
    body = head(url, Content_Length=1000) + b"["
    refused = head(url, Host="other.example", Content_Length=1000) + b"["
    streams: list[tuple[list[bytes], list[int]]] = [
        ([b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 400], []),
        ([body, *[b"["] * 400], [408]),
        ([body], [408]),
        ([refused, *[b"["] * 400], [403]),  # it may send its body, but not forever
        ([b"GET / HTTP/1.1\r\n"], []),
        ([b""], []),  # connected, and silent
    ]
    with ThreadPoolExecutor(len(streams)) as pool:
        answers = [pool.submit(exchange, url, *parts, pause=0.05) for parts, _ in streams]
        for answer, (_, expected) in zip(answers, streams, strict=True):
            # A client that goes on sending may miss the answer.
            assert statuses(answer.result()) in (expected, [])
    assert time.monotonic() - start < 15  # all 400 parts take 20 seconds


def test_a_client_that_does_not_read_is_left(server: ForkedServer) -> None:
    """Neither what uvicorn has buffered nor what it waits to buffer keeps a connection."""
    files = count_files(server)
    with connect(server.url) as other:
        address = other.getpeername()
    with ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect(address)
            sock.settimeout(0.3)
            with suppress(TimeoutError):  # as soon as the server reads no more
                sock.sendall(head(server.url, "GET", "/openapi.json") * 5000)
        caption(server)
        assert count_files(server) >= files + 3
        wait_until(lambda: count_files(server) < files + 3)


def test_idle_and_half_closed_connections_leave_room_for_others(server: ForkedServer) -> None:
    text = caption(server)
    files = count_files(server)
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(server.url)) for _ in range(1000)]
        for sock in socks[:300]:
            sock.sendall(b"GET / HTTP/1.1\r\n")
        for sock in socks[300:600]:
            sock.shutdown(socket.SHUT_WR)
        for sock in socks[600:700]:
            sock.sendall(head(server.url, Content_Length=10) + b"[")
        assert caption(server) == text
        wait_until(lambda: count_files(server) < files + 20)
        assert caption(server) == text


def test_connections_beyond_the_limit_are_closed_and_the_limit_is_not_used_up(
    tmp_path: Path, model: Path
) -> None:
    flags = ("--max-connections", "10", "--max-buffered-bytes", "3000000", "--max-queue", "0")
    with fork_server(tmp_path, model, *flags) as server:
        with ExitStack() as stack:
            socks = [stack.enter_context(connect(server.url)) for _ in range(30)]
            assert [read_to_end(sock) for sock in socks[10:]] == [b""] * 20
            for sock in socks[:3]:  # more together than the server keeps
                sock.sendall(head(server.url, Content_Length=2_000_000) + b"[" * 1_000_001)
            answers = read_to_end(next_readable(socks[:3]))
            assert statuses(answers) == [429]
            assert b"retry-after: 1\r\n" in answers
        wait_until(lambda: is_served(server))
        caption(server)


def next_readable(socks: list[socket.socket]) -> socket.socket:
    """Return the first of some connections on which something comes."""
    import select

    readable, _, _ = select.select(socks, [], [], 20)
    readable[0].shutdown(socket.SHUT_WR)
    return readable[0]  # type: ignore[no-any-return]


def is_served(server: ForkedServer) -> bool:
    try:
        return read_url(f"{server.url}/healthz")[0] == 200
    except OSError:
        return False


# Clients that leave, and too many of them


def submit_slow(server: ForkedServer, **settings: object) -> socket.socket:
    """Send a request that takes a while, and return its connection."""
    sock = connect(server.url)
    sock.sendall(post(server.url, to_json(*[PNG] * 3, **SLOW, **settings)))
    return sock


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_abrupt", [False, True])
def test_a_client_that_leaves_cancels_its_request(
    server: ForkedServer, stream: bool, is_abrupt: bool
) -> None:
    before = read_metric(server.url, "cutline_images_total")
    sock = submit_slow(server, stream=stream)
    wait_until(lambda: count_work(server.url) == 3)
    if is_abrupt:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    wait_until(lambda: count_work(server.url) == 0)
    assert read_metric(server.url, "cutline_images_total") < before + 3


def test_a_deadline_frees_its_place(server: ForkedServer) -> None:
    answer = exchange(server.url, post(server.url, to_json(*[PNG] * 3, **SLOW, deadline=0.01)))
    assert statuses(answer) == [504]
    error = find_error(answer)
    assert error["type"] == "deadline_exceeded"
    assert error["message"].startswith("the request was not done within its deadline; ")
    wait_until(lambda: count_work(server.url) == 0)


def test_overload_is_refused_and_passes(server: ForkedServer) -> None:
    text = caption(server)
    lock, found = threading.Lock(), []

    def send() -> None:
        for _ in range(3):
            status, headers, body = read_url(f"{server.url}/v1/captions", json.loads(to_json(PNG)))
            with lock:
                found.append((status, headers, body))

    threads = [threading.Thread(target=send) for _ in range(9)]
    refused = read_metric(server.url, "cutline_queue_full_total")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _, _ in found} == {200, 429}
    for status, headers, body in found:
        content = json.loads(body)
        if status == 200:
            assert content["captions"][0]["text"] == text
        else:
            assert 1 <= int(headers["retry-after"]) <= 60
            assert content["error"]["type"] == "queue_full"
    num_refused = sum(status == 429 for status, _, _ in found)
    assert read_metric(server.url, "cutline_queue_full_total") == refused + num_refused
    assert caption(server) == text
