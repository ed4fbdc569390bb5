"""Load on an HTTP server: requests from a number of clients, or at given times.

Requests are bytes that were made before, and each has a connection of its own, so that the load
costs little of the CPU that the server needs.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

BOUNDARY = "cutline-benchmark"
_TEXT = re.compile(r'"text": ?("(?:[^"\\]|\\.)*")')
_FIRST_TEXT = b"event: text"
_CAPTION = b"event: caption"


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    """0 if the connection broke"""
    seconds: float
    """since the request was due"""
    end: float
    """when it came, on the clock of `time.perf_counter`"""
    first_text: float | None
    """seconds until the first words of a response that is streamed"""
    text: str
    """the caption, if there is one"""
    error: str
    """the type of the error, if there is one"""
    retry_after: str
    """the header, if there is one"""


@dataclass(frozen=True)
class Load:
    """Requests that were answered."""

    answers: list[Answer]
    """in the order of the requests"""
    seconds: float
    """until the last answer"""
    due_seconds: float
    """until the last request was due; 0 if each waited for an answer"""
    cpu_seconds: float
    """CPU time of the clients"""

    def require_captions(self) -> None:
        """Raise RuntimeError unless every request was answered with a caption."""
        if failed := [answer for answer in self.answers if not answer.text]:
            statuses = sorted({(answer.status, answer.error) for answer in failed})
            raise RuntimeError(f"{len(failed)} requests failed, with status and error {statuses}")


def make_request(url: str, content_type: str, body: bytes) -> bytes:
    """Return the bytes of a POST request."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def make_upload(url: str, image: bytes, **fields: object) -> bytes:
    """Return the bytes of a request whose form holds an image file and settings."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = "".join(parts).encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    return make_request(url, f"multipart/form-data; boundary={BOUNDARY}", body)


def run_closed(url: str, requests: Sequence[bytes], concurrency: int) -> Load:
    """Send requests from `concurrency` clients, each of which waits for its answer."""

    async def run() -> list[Answer]:
        numbered = enumerate(requests)
        answers: dict[int, Answer] = {}

        async def work() -> None:
            for number, request in numbered:
                answers[number] = await send_request(url, request, time.perf_counter())

        await asyncio.gather(*(work() for _ in range(concurrency)))
        return [answers[number] for number in sorted(answers)]

    return _measure(run, 0)


def run_open(url: str, requests: Iterable[bytes], times: Sequence[float]) -> Load:
    """Send requests at given times, in seconds from now, whether or not others are answered."""

    async def run() -> list[Answer]:
        start = time.perf_counter()
        tasks = []
        for due, request in zip(times, requests, strict=False):
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
            tasks.append(asyncio.create_task(send_request(url, request, start + due)))
        return list(await asyncio.gather(*tasks))

    return _measure(run, times[-1])


def _measure(run: Callable[[], Coroutine[None, None, list[Answer]]], due_seconds: float) -> Load:
    start, cpu_start = time.perf_counter(), time.process_time()
    answers = asyncio.run(run())
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Load(answers, seconds, due_seconds, cpu_seconds)


async def send_request(url: str, request: bytes, due: float) -> Answer:
    """Send a request, and return the answer."""
    parts = urlsplit(url)
    data = bytearray()
    first_text: float | None = None
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            while chunk := await reader.read(1 << 16):
                data += chunk
                if first_text is None and _FIRST_TEXT in data:
                    first_text = time.perf_counter() - due
        finally:
            writer.close()
    except OSError:
        data.clear()
    return read_answer(bytes(data), due, first_text)


def read_answer(data: bytes, due: float, first_text: float | None) -> Answer:
    """Return the answer that a response is."""
    end = time.perf_counter()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1]) if data else 0
    headers = {name.lower(): v.strip() for name, _, v in (line.partition(":") for line in lines)}
    error = ""
    if status >= 400:
        error = json.loads(body)["error"]["type"]
    elif "event: error" in (streamed := body.decode("utf-8", "replace")):
        error = streamed.partition('"type": "')[2].partition('"')[0]
    if _FIRST_TEXT in body:
        body = body.partition(_CAPTION)[2]
    found = _TEXT.search(body.decode("utf-8", "replace"))
    text = json.loads(found[1]) if found and not error else ""
    retry_after = headers.get("retry-after", "")
    return Answer(status, end - due, end, first_text, text, error, retry_after)
