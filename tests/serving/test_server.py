"""Starting and stopping: signals, ports, models that cannot be loaded."""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from forked_server import ForkedServer, fork_server
from random_captioner import make_captioner, save_captioner
from raw_http import connect, count_work, head, make_png, read_to_end, statuses, to_json, wait_until
from serving_process import read_url
from web_server import Handler, WebServer, send

from cutline.batching import BatchRunner, CaptionRequest
from cutline.cli.console import print_message
from cutline.cli.main import run_command
from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.errors import CutlineError
from cutline.serving.server import run_server
from cutline.serving.service import CaptionService, ServedModels, choose_model_name

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")

PNG = make_png()
URLS = ("--allow-urls", "--allow-private-hosts", "127.0.0.1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_captioner(folder)
    return folder


class SlowImage:
    """An address whose image comes when a test says so: its request runs until then."""

    def __init__(self) -> None:
        self.is_asked, self.may_come = threading.Event(), threading.Event()

    def __call__(self, handler: Handler) -> None:
        self.is_asked.set()
        self.may_come.wait(60)
        send(PNG)(handler)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as web:
        yield web


@pytest.fixture
def slow_image(web: WebServer) -> Iterator[SlowImage]:
    image = web.answers["/a.jpg"] = SlowImage()
    yield image
    image.may_come.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def submit(
    server: ForkedServer, web: WebServer, pool: ThreadPoolExecutor, image: SlowImage
) -> Future[tuple[int, dict[str, str], bytes]]:
    """Start a request that runs until its image comes."""
    request = {"images": [{"url": web.url()}]}
    answer = pool.submit(read_url, f"{server.url}/v1/captions", request)
    assert image.is_asked.wait(20)
    return answer


def send_signal(server: ForkedServer, number: int) -> None:
    os.kill(server.pid, number)


def wait_for_end(server: ForkedServer, seconds: float = 20) -> int | None:
    """Return the exit code of a server that is about to end."""
    server.process.join(seconds)
    return server.process.exitcode


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_lets_running_requests_end_and_no_others_begin(
    tmp_path: Path,
    model: Path,
    web: WebServer,
    slow_image: SlowImage,
    pool: ThreadPoolExecutor,
    number: int,
) -> None:
    with fork_server(tmp_path, model, *URLS) as server:
        answer = submit(server, web, pool, slow_image)
        with connect(server.url):  # idle: it is not waited for
            assert read_url(f"{server.url}/readyz")[0] == 200
            send_signal(server, number)
            wait_until(lambda: read_url(f"{server.url}/readyz")[0] == 503)
            assert read_url(f"{server.url}/healthz")[0] == 200
            status, headers, body = read_url(f"{server.url}/v1/captions", json.loads(to_json(PNG)))
            assert status == 503
            assert headers["retry-after"] == "2"
            assert json.loads(body)["error"]["type"] == "not_ready"
            assert not answer.done()
            slow_image.may_come.set()
            status, _, body = answer.result()
            assert status == 200
            assert json.loads(body)["captions"][0]["text"]
            assert wait_for_end(server) == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_second_signal_stops_at_once(
    tmp_path: Path,
    model: Path,
    web: WebServer,
    slow_image: SlowImage,
    pool: ThreadPoolExecutor,
    number: int,
) -> None:
    with fork_server(tmp_path, model, *URLS) as server:
        sock = connect(server.url)
        body = json.dumps({"images": [{"url": web.url()}]}).encode()
        sock.sendall(head(server.url, Content_Length=len(body)) + body)
        assert slow_image.is_asked.wait(20)
        send_signal(server, number)
        wait_until(lambda: read_url(f"{server.url}/readyz")[0] == 503)
        start = time.monotonic()
        send_signal(server, number)
        assert wait_for_end(server) == 128 + number
        assert time.monotonic() - start < 10  # the image would come after 60 seconds
        assert server.log.endswith("cutline: stopped\n")
        assert "Traceback" not in server.log
        sock.close()


def test_a_body_that_is_being_received_is_answered_before_the_server_stops(
    tmp_path: Path, model: Path
) -> None:
    body = to_json(PNG)
    with fork_server(tmp_path, model, "--host", "::1") as server, connect(server.url) as sock:
        assert server.url.startswith("http://[::1]:")
        sock.sendall(head(server.url, Content_Length=len(body)) + body[:10])
        time.sleep(0.2)
        send_signal(server, signal.SIGTERM)
        wait_until(lambda: read_url(f"{server.url}/readyz")[0] == 503)
        sock.sendall(body[10:])
        assert statuses(read_to_end(sock)) == [200]
        assert wait_for_end(server) == 0


def load_slowly(words: list[str]) -> None:
    """Run a server whose model takes a minute to load."""

    def load() -> ServedModels:
        time.sleep(60)
        raise AssertionError

    limits = ServeLimits()
    service = CaptionService("tiny", ServeConfig(port=0), limits, UrlPolicy())
    run_server(service, load, 4, print_message)


def test_a_server_that_loads_is_alive_and_not_ready(tmp_path: Path, model: Path) -> None:
    with fork_server(tmp_path, model, until="listening at", run=load_slowly) as server:
        wait_until(lambda: is_alive(server))
        requests = (("/v1/captions", to_json(PNG)), ("/api/chat", b'{"model": "tiny"}'))
        for path, data in (("/readyz", b""), ("/v1/info", b""), *requests):
            content = json.loads(data) if data else None
            status, headers, body = read_url(server.url + path, content)
            assert status == 503
            assert headers["retry-after"] == "2"
            assert "being loaded" in str(json.loads(body)["error"])
        assert count_work(server.url) == 0
        send_signal(server, signal.SIGTERM)
        assert wait_for_end(server) == 0


def break_model(words: list[str]) -> None:
    """Run a server whose model fails."""

    def load() -> ServedModels:
        captioner = make_captioner()
        captioner.make_runner = fail_to_run
        return ServedModels(captioner)

    service = CaptionService("tiny", ServeConfig(port=0), ServeLimits(), UrlPolicy())
    try:
        run_server(service, load, 4, print_message)
    except CutlineError as error:
        print_message(str(error))
        sys.exit(1)


def fail_to_run(slots: int) -> BatchRunner:
    runner = make_captioner().make_runner(slots)
    run_step = runner._run_step

    def fail_step(waiting: list[CaptionRequest], *arguments: Any) -> None:
        if any(request.id > 1 for request in waiting):  # not the two that warm up
            raise RuntimeError("broken weights")
        run_step(waiting, *arguments)

    runner._run_step = fail_step
    return runner


def test_a_server_whose_model_fails_ends_so_that_it_is_started_again(
    tmp_path: Path, model: Path
) -> None:
    with fork_server(tmp_path, model, run=break_model) as server:
        status, _, body = read_url(f"{server.url}/v1/captions", json.loads(to_json(PNG)))
        assert status == 500
        assert b"broken weights" not in body
        assert wait_for_end(server) == 1
        assert server.log.endswith(
            "the model has failed, as the log says: start the server again\n"
        )


def test_the_name_of_a_model_is_the_last_part_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"a/blip.pth": "blip", "org/blip-base": "blip-base", "c:\\runs\\a.b\\": "a.b"}
    paths |= {".": tmp_path.name, "./": tmp_path.name, "..": tmp_path.parent.name}
    assert {path: choose_model_name(path) for path in paths} == paths
    for name in ("blip", "blip:latest"):
        service = CaptionService(name, ServeConfig(), ServeLimits(), UrlPolicy())
        assert service.is_named("blip")
        assert service.is_named("blip:latest")
        assert not service.is_named("blip:7b")


def is_alive(server: ForkedServer) -> bool:
    with suppress(OSError):
        return read_url(f"{server.url}/healthz")[0] == 200
    return False


def test_a_model_that_cannot_be_loaded_ends_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["serve", "--model", str(tmp_path / "missing"), "--port", "0"]) == 1
    listening, message = capsys.readouterr().err.splitlines()
    assert "listening at http://127.0.0.1:" in listening
    assert message.startswith(f"cutline: {tmp_path / 'missing'}: ")


def test_a_port_that_is_in_use_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run_command(["serve", "--model", "missing", "--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"cutline: 127.0.0.1:{port}: the server cannot listen there (")
    assert message.endswith("choose another --port\n")
    assert message.count("\n") == 1
    assert run_command(["serve", "--model", "x", "--host", "192.0.2.1", "--no-auth"]) == 1
    message = capsys.readouterr().err
    assert "cannot listen there (" in message
    assert message.endswith("choose another --host\n")
