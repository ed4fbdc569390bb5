"""`WebServer`: a real HTTP server on this machine, whose answers a test chooses."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with what the server has for the path."""

    server: "WebServer"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    body = b""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        answers = self.server.answers.get(self.path, send(b"", 404))
        answer = answers.pop(0) if isinstance(answers, list) else answers
        try:
            answer(self)
        except OSError:  # the client has gone
            self.close_connection = True

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(self.body)
        self.do_GET()

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class WebServer(ThreadingHTTPServer):
    """Serves `answers`, by path; a list gives one answer to each request. Use as a context."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(
        self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        super().__init__((host, port), Handler)
        self.scheme = "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"

    def handle_error(self, *args: Any) -> None:
        """Stay quiet: clients that leave early are part of the tests."""

    def url(self, path: str = "/a.jpg", host: str = "") -> str:
        name, port = self.server_address[:2]
        host = host or (f"[{name}]" if ":" in str(name) else str(name))
        return f"{self.scheme}://{host}:{port}{path}"

    def __enter__(self) -> "WebServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        super().__exit__(*args)


def send(body: bytes = b"image", status: int = 200, **headers: str) -> Answer:
    """Return a complete answer; `_` in the names of headers stands for `-`."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.write(body)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    """Return a redirect."""
    return send(b"moved", status, Location=location)


def send_raw(*pieces: bytes, pause: float = 0) -> Answer:
    """Return an answer of these bytes, with pauses between them; then disconnect."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        for index, piece in enumerate(pieces):
            time.sleep(pause if index else 0)
            handler.write(piece)

    return answer
