"""The examples in deploy/: their own programs accept them, and they fit the server."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import make_certificate
from web_server import Answer, Handler, WebServer, send, send_raw

from cutline import Client, ServedText
from cutline.cli.main import run_command
from cutline.config import ServeLimits
from cutline.errors import CutlineError, ImageError, QueueFullError
from cutline.serving.server import KEEP_ALIVE

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
UPSTREAMS = sorted((DEPLOY / "nginx").glob("upstream-*.conf"))
COMPOSE: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
LIMITS = ServeLimits()
SERVERS = [name for name in COMPOSE["services"] if name != "proxy"]


def read_unit(path: Path) -> list[tuple[str, str]]:
    """Return the settings of a unit; a key may occur several times."""
    lines = path.read_text(encoding="utf-8").splitlines()
    settings = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in settings]


def read_containerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def read_json_argument(instruction: str) -> list[str]:
    (rest,) = [rest for name, rest in read_containerfile() if name == instruction]
    words: list[str] = yaml.safe_load(rest)
    return words


def read_directive(path: Path, name: str) -> str:
    """Return the value of a directive of nginx."""
    (value,) = set(re.findall(rf"^ *{name} (.+);$", path.read_text(encoding="utf-8"), re.M))
    return str(value)


def find_program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


# The server


def test_flags_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["serve", "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    commands = [dict(read_unit(path))["ExecStart"].split() for path in UNITS]
    commands += [read_json_argument("ENTRYPOINT"), read_json_argument("CMD")]
    commands += [COMPOSE["services"][name]["command"] for name in SERVERS]
    flags = {word.partition("=")[0] for words in commands for word in words if word[:2] == "--"}
    assert len(flags) > 4
    assert flags <= known


def test_whoever_stops_or_waits_for_a_server_is_more_patient_than_it() -> None:
    waits = [dict(read_unit(path))["TimeoutStopSec"] for path in UNITS]
    waits += [COMPOSE["services"][name]["stop_grace_period"] for name in SERVERS]
    waits.append(read_directive(DEPLOY / "nginx/cutline.conf", "proxy_read_timeout"))
    assert all(int(wait.removesuffix("s")) > LIMITS.deadline + 10 for wait in waits)
    for path in UPSTREAMS:
        assert int(read_directive(path, "keepalive_timeout").removesuffix("s")) < KEEP_ALIVE


def test_the_proxy_has_the_limits_of_the_server() -> None:
    path = DEPLOY / "nginx/cutline.conf"
    size = read_directive(path, "client_max_body_size")
    assert int(size.removesuffix("m")) << 20 == LIMITS.max_body_bytes
    assert read_directive(path, "client_header_timeout") == f"{LIMITS.header_timeout:g}s"
    for name in ("send_timeout", "proxy_send_timeout"):
        assert read_directive(path, f"(?<!_){name}") == f"{LIMITS.send_timeout:g}s"


# systemd


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_the_units(path: Path, tmp_path: Path) -> None:
    program = find_program("systemd-analyze")
    copy = tmp_path / path.name.replace("@", "@0")
    text = path.read_text(encoding="utf-8").replace("/opt/cutline/bin/cutline", sys.executable)
    copy.write_text(text, encoding="utf-8")
    result = subprocess.run([program, "verify", "--man=no", copy], capture_output=True, text=True)
    assert [line for line in result.stderr.splitlines() if "cutline" in line] == []


def test_the_units_differ_in_their_devices_only() -> None:
    one, each = (set(read_unit(path)) for path in UNITS)
    different = {"After", "Description", "Environment", "ExecStart"}
    assert {key for key, _ in one - each} == {*different, "PrivateDevices"} - {"Environment"}
    assert {key for key, _ in each - one} == {*different, "DevicePolicy", "DeviceAllow"}


# Containers


def test_compose_follows_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_compose_mounts_what_is_there_and_has_a_gpu_per_server() -> None:
    services = COMPOSE["services"]
    sources = [volume.split(":")[0] for volume in services["proxy"]["volumes"]]
    assert [name for name in sources if not (DEPLOY / name).exists()] == ["./tls"]
    certificate = read_directive(DEPLOY / "nginx/cutline.conf", "ssl_certificate")
    assert any(volume.split(":")[1] in certificate for volume in services["proxy"]["volumes"])
    gpus = [
        services[name]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name in SERVERS
    ]
    assert gpus == [[str(number)] for number in range(len(SERVERS))]
    upstream = (DEPLOY / "nginx/upstream-compose.conf").read_text(encoding="utf-8")
    ports = dict(re.findall(r"server (\w+):(\d+)", upstream))
    (port,) = [rest for name, rest in read_containerfile() if name == "EXPOSE"]
    assert ports == dict.fromkeys(SERVERS, port)
    assert read_json_argument("ENTRYPOINT")[-2:] == ["--port", port]
    assert set(COMPOSE["secrets"]) == {"tokens"}
    for name in SERVERS:
        assert "--token-file=/run/secrets/tokens" in services[name]["command"]


def test_the_container_gets_files_and_extras_that_exist() -> None:
    known = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "VOLUME", "USER", "EXPOSE"}
    known |= {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    instructions = read_containerfile()
    assert {name for name, _ in instructions} == known
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copies = [rest.split() for name, rest in instructions if name == "COPY"]
    sources = [word for words in copies if words[0][:2] != "--" for word in words[:-1]]
    assert {"cutline", "pyproject.toml", "README.md", "LICENSE"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
    assert all(
        len(words) == 2 or words[-1].endswith("/") or words[0][:2] == "--" for words in copies
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = re.findall(r"'\.\[(.+?)\]'", str(instructions))
    assert installs
    for extra in ",".join(installs).split(","):
        assert extra in project["optional-dependencies"]
    images = {rest.split()[0] for name, rest in instructions if name == "FROM"}
    (version,) = (re.fullmatch(r"python:(3\.\d+)-slim", image) for image in images)
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]


def test_the_container_is_healthy_when_the_server_is_ready() -> None:
    """Run the health check as it is, with the port of a server of ours in place of 8000."""
    (check,) = [rest for name, rest in read_containerfile() if name == "HEALTHCHECK"]
    words = yaml.safe_load(check.partition("CMD ")[2])
    with WebServer() as server:
        code = words[2].replace("http://127.0.0.1:8000", server.url(""))
        server.answers["/readyz"] = [send(b"{}"), send(b"{}", 503)]
        results = [
            subprocess.run([sys.executable, words[1], code], capture_output=True).returncode
            for _ in range(2)
        ]
    assert results == [0, 1]


# nginx


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(folder: Path, certificate: Path, upstream: str, port: int) -> Path:
    """Write a configuration of nginx that includes ours, with this port and certificate."""
    server = (DEPLOY / "nginx/cutline.conf").read_text(encoding="utf-8")
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/cutline/tls/fullchain.pem", str(certificate)),
        ("/etc/cutline/tls/privkey.pem", str(certificate.with_suffix(".key"))),
    ):
        assert old in server
        server = server.replace(old, new)
    (folder / "cutline.conf").write_text(server, encoding="utf-8")
    (folder / "upstream.conf").write_text(upstream, encoding="utf-8")
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in names)
    path = folder / "nginx.conf"
    path.write_text(
        f"pid {folder}/pid; daemon off; master_process off; error_log stderr warn; events {{}}\n"
        f"http {{ access_log off; {temporary}\n"
        f"include {folder}/upstream.conf; include {folder}/cutline.conf; }}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("path", UPSTREAMS, ids=lambda path: path.name)
def test_nginx_accepts_the_configuration(path: Path, certificate: Path, tmp_path: Path) -> None:
    program = find_program("nginx")
    upstream = path.read_text(encoding="utf-8")
    upstream = re.sub(r"\bgpu\d\b", "127.0.0.1", upstream)  # names of containers, unknown here
    config = write_config(tmp_path, certificate, upstream, find_free_port())
    command = [program, "-t", "-p", tmp_path, "-e", "stderr", "-c", config]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "[warn]" not in result.stderr


def send_caption(handler: Handler) -> None:
    caption = {"text": "a dog", "score": 0, "confidence": 1, "words": [], "finish_reason": "stop"}
    send(json.dumps({"captions": [caption]}).encode())(handler)


def send_error(status: int, kind: str) -> Answer:
    error = {"error": {"type": kind, "message": "of the server", "param": None}}
    return send(json.dumps(error).encode(), status, Retry_After="1")


class Proxy:
    """nginx with our configuration, before two servers."""

    def __init__(self, url: str, servers: tuple[WebServer, WebServer]) -> None:
        self.url, self.servers = url, servers

    def set_answers(self, *answers: Answer) -> None:
        for server, answer in zip(self.servers, answers, strict=True):
            server.answers["/v1/captions"] = answer
            server.requests.clear()

    @property
    def num_requests(self) -> list[int]:
        return [len(server.requests) for server in self.servers]


@pytest.fixture(scope="module")
def proxy(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    program, folder = find_program("nginx"), tmp_path_factory.mktemp("nginx")
    port = find_free_port()
    upstream = (DEPLOY / "nginx/upstream-systemd.conf").read_text(encoding="utf-8")
    with WebServer() as first, WebServer() as second:
        for number, server in enumerate((first, second)):
            upstream = upstream.replace(f":{8000 + number} ", f":{server.server_address[1]} ")
        config = write_config(folder, certificate, upstream, port)
        command = [program, "-p", folder, "-e", "stderr", "-c", config]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for_port(port)
                yield Proxy(f"https://localhost:{port}", (first, second))
            finally:
                process.terminate()


def wait_for_port(port: int) -> None:
    for _ in range(500):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise TimeoutError("nginx does not listen")


@pytest.fixture
def client(proxy: Proxy, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Return a client that sends each request once."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Client(proxy.url, timeout=10, max_retries=0) as client:
        yield client


def test_nginx_asks_another_server_if_one_is_not_ready(proxy: Proxy, client: Client) -> None:
    proxy.set_answers(send_error(503, "not_ready"), send_caption)
    assert [client.caption(b"image")[0].text for _ in range(4)] == ["a dog"] * 4
    assert proxy.num_requests[0] > 0
    assert proxy.num_requests[1] == 4
    assert proxy.servers[1].bodies[-1] == b'{"images": [{"data": "aW1hZ2U="}]}'
    assert proxy.servers[1].requests[-1][1]["Host"] == proxy.url.removeprefix("https://")


def test_nginx_passes_on_that_no_server_is_ready(proxy: Proxy, client: Client) -> None:
    proxy.set_answers(send_error(503, "not_ready"), send_error(503, "not_ready"))
    for _ in range(3):
        with pytest.raises(CutlineError, match=r"^of the server$"):
            client.caption(b"image")
    assert proxy.num_requests == [3, 3]


def test_nginx_passes_on_that_a_queue_is_full(proxy: Proxy, client: Client) -> None:
    proxy.set_answers(send_error(429, "queue_full"), send_error(429, "queue_full"))
    with pytest.raises(QueueFullError, match=r"^of the server$"):
        client.caption(b"image")
    assert sum(proxy.num_requests) == 1


def test_nginx_refuses_what_the_server_would_refuse(proxy: Proxy, client: Client) -> None:
    proxy.set_answers(send_caption, send_caption)
    with pytest.raises(ImageError, match="too large for a proxy"):
        client.caption(bytes(25 << 20))
    assert proxy.num_requests == [0, 0]
    assert client.caption(bytes(20 << 20))[0].text == "a dog"


def test_nginx_passes_on_events_as_they_come_and_that_the_client_leaves(
    proxy: Proxy, client: Client
) -> None:
    def send_events(handler: Handler) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        handler.write(head)
        while more.acquire(timeout=5):
            handler.write(b'event: text\ndata: {"candidate": 0, "text": "a", "draft": ""}\n\n')
            handler.connection.settimeout(0.01)
            with suppress(TimeoutError):
                if not handler.connection.recv(1):
                    gone.set()
                    return

    more, gone = threading.Semaphore(1), threading.Event()
    proxy.set_answers(send_events, send_events)
    with closing(client.stream(b"image")) as events:
        for _ in range(3):
            assert next(events) == ServedText("a")
            more.release()
    for _ in range(100):
        more.release()
    assert gone.wait(5)


def test_nginx_asks_another_server_if_one_is_gone(proxy: Proxy, client: Client) -> None:
    proxy.set_answers(send_raw(), send_caption)  # which also ends connections of earlier tests
    proxy.servers[0].shutdown()
    proxy.servers[0].server_close()
    assert [client.caption(b"image")[0].text for _ in range(4)] == ["a dog"] * 4
    proxy.set_answers(send_raw(), send_raw())
    proxy.servers[1].shutdown()
    proxy.servers[1].server_close()
    with pytest.raises(CutlineError, match=r"^no server can be reached; try again later$"):
        client.caption(b"image")
