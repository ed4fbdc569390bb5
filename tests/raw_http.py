"""HTTP as a hostile client writes it: bytes to a socket, and what comes back."""

import base64
import io
import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image


def connect(url: str, timeout: float = 20) -> socket.socket:
    """Return a connection to a server."""
    parts = urlsplit(url)
    assert parts.hostname
    sock = socket.create_connection((parts.hostname, parts.port or 80), timeout)
    sock.settimeout(timeout)
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    """Return all bytes until the server closes the connection."""
    parts = []
    with suppress(ConnectionResetError):
        while part := sock.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def exchange(url: str, *parts: bytes, pause: float = 0.0, timeout: float = 20) -> bytes:
    """Send bytes, with pauses between them; return what comes until the connection is closed."""
    with connect(url, timeout) as sock:
        with suppress(ConnectionError):
            for index, part in enumerate(parts):
                time.sleep(pause if index else 0)
                sock.sendall(part)
        return read_to_end(sock)


def head(url: str, method: str = "POST", path: str = "/v1/captions", **headers: object) -> bytes:
    """Return the head of a request; `_` in the names of headers stands for `-`."""
    lines = [f"{method} {path} HTTP/1.1"]
    for name, value in ({"Host": urlsplit(url).netloc} | headers).items():
        lines.append(f"{name.replace('_', '-')}: {value}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def post(
    url: str, body: bytes, kind: str = "application/json", path: str = "/v1/captions"
) -> bytes:
    """Return a request with a body, after which the connection is closed."""
    headers = {"Content_Type": kind, "Content_Length": len(body), "Connection": "close"}
    return head(url, **headers) + body


def statuses(answer: bytes) -> list[int]:
    """Return the status of each response."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def find_error(answer: bytes) -> dict[str, Any]:
    """Return the error in the last response, which has the shape of our API."""
    content = json.loads(answer.rpartition(b"\r\n\r\n")[2])
    assert set(content) == {"error"}
    error: dict[str, Any] = content["error"]
    assert set(error) == {"type", "message", "param"}
    return error


def make_png(width: int = 32, height: int = 32) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def to_json(*images: bytes, **fields: object) -> bytes:
    """Return a request for captions as JSON."""
    data = [{"data": base64.b64encode(image).decode()} for image in images]
    return json.dumps({"images": data, **fields}).encode()


def read_peak_memory(pid: int) -> int:
    """Return the largest memory that a process has had, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found
    return int(found[1]) << 10


def read_metric(url: str, name: str) -> float:
    """Return the sum of the values of a metric of a server."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as response:
        text = response.read().decode()
    values = re.findall(rf"^{name}(?:{{.*}})? (\S+)", text, re.MULTILINE)
    return sum(map(float, values))


def count_work(url: str) -> int:
    """Return the number of images that run or wait."""
    return int(sum(read_metric(url, f"cutline_requests_{kind}") for kind in ("running", "waiting")))


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds, which must not take long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
