"""What hostile clients send: it is refused in a sentence, and the server goes on as before."""

import base64
import gzip
import importlib
import json
import os
import random
import re
import signal
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_http import (
    count_work,
    exchange,
    find_error,
    head,
    make_png,
    post,
    read_peak_memory,
    statuses,
    to_json,
    wait_until,
)
from serving_process import RunningServer, read_url, start_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PNG = make_png()
MOST_MEMORY = 600 << 20
"""bytes that all requests of these tests together may take, at their peak"""
FORM = "multipart/form-data; boundary=B"
IMAGE_PART = b'Content-Disposition: form-data; name="images"; filename="a.png"'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server; after all tests, it must be as it was."""
    flags = ("--max-pixels", "4000000", "--max-image-bytes", "4000000")
    with start_server(tmp_path_factory.mktemp("server"), *flags) as server:
        caption(server)
        before = read_peak_memory(server.pid)
        yield server
        caption(server)
        assert read_peak_memory(server.pid) < before + MOST_MEMORY
        assert not list(server.temporary.iterdir())
        assert server.log.count("\n") == 2  # no traceback, and nothing that a client wrote
        wait_until(lambda: count_work(server.url) == 0)
        os.kill(server.pid, signal.SIGTERM)
        server.process.join(20)
        assert server.process.exitcode == 0
        assert server.log.count("\n") == 2


def find_text(server: RunningServer) -> str:
    """Return the caption of the image, from Python."""
    (caption,) = server.captioner.caption(PNG)
    return caption.text


def caption(server: RunningServer) -> None:
    """Check that the server captions as it should."""
    status, _, body = read_url(f"{server.url}/v1/captions", json.loads(to_json(PNG)))
    assert status == 200
    assert json.loads(body)["captions"][0]["text"] == find_text(server)


def refuse(server: RunningServer, request: bytes, *allowed: int) -> str:
    """Send a request, which must be refused with a status; return the message."""
    answer = exchange(server.url, request)
    assert statuses(answer)[-1] in allowed, answer[:500]
    error = find_error(answer)
    check_message(error["message"])
    return str(error["message"])


def check_message(message: str) -> None:
    """Check that a message tells nothing of the server's disk or code."""
    assert 0 < len(message) < 1000
    assert not re.search(r"Traceback|File \"|\.py\b|/usr/|/tmp|/home|site-packages", message)


# Images


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_bomb_png(width: int, height: int) -> bytes:
    """Return a small PNG of a large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(min(50_000_000, (3 * width + 1) * height)), 9)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_text_bomb_png() -> bytes:
    """Return a small PNG with much compressed text."""
    text = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    return PNG[:33] + chunk(b"zTXt", text) + PNG[33:]


def make_bomb_gif(frames: int) -> bytes:
    """Return a GIF of 65,535 x 65,535 pixels, or of many frames of it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x4c\x01\x00"
    return screen + frame * frames + b";"


def make_bomb_webp() -> bytes:
    """Return a WebP whose header says 16,383 x 16,383 pixels."""
    size = struct.pack("<I", 16_382 | 16_382 << 14)
    data = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + size + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data


def make_bomb_ico() -> bytes:
    """Return an ICO that holds the PNG of a large image."""
    inner = make_bomb_png(20_000, 20_000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + inner


def make_bomb_tiff() -> bytes:
    """Return a TIFF whose header says 100,000 x 100,000 pixels, all in one strip."""
    tags = [
        *((256, 4, 1, 100_000), (257, 4, 1, 100_000), (258, 3, 1, 8), (259, 3, 1, 5)),
        *((262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 100_000)),
        (279, 4, 1, 100),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(104)


BOMBS = {
    "png": lambda: make_bomb_png(30_000, 30_000),
    "thin png": lambda: make_bomb_png(1, 2_000_000_000),
    "png within the limit": lambda: make_bomb_png(1_999, 2_000)[:5_000],
    "gif": lambda: make_bomb_gif(1),
    "gif frames": lambda: make_bomb_gif(10_000),
    "webp": make_bomb_webp,
    "ico": make_bomb_ico,
    "tiff": make_bomb_tiff,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_unopened(server: RunningServer, name: str) -> None:
    message = refuse(server, post(server.url, BOMBS[name](), "image/png"), 413, 422)
    assert "request" not in message.split(":")[0]  # no number of a request


def test_a_bomb_of_text_in_an_image_is_harmless(server: RunningServer) -> None:
    answer = exchange(server.url, post(server.url, make_text_bomb_png(), "image/png"))
    assert statuses(answer)[0] in (200, 413, 422)


NO_IMAGES = {
    "nothing": b"",
    "zeros": bytes(10_000),
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
    "gzip": gzip.compress(PNG),
    "zip": b"PK\x03\x04" + PNG,
    "program": b"\x7fELF" + bytes(100),
    "path": b"/etc/passwd",
    "address": b"http://127.0.0.1:1/a.png",
    "path as data": b"file:///etc/passwd\0.png",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_refused_whatever_it_is_called(
    server: RunningServer, name: str
) -> None:
    data = NO_IMAGES[name]
    for kind in ("image/png", "application/octet-stream"):
        message = refuse(server, post(server.url, data, kind), 415, 422)
        assert "passwd" not in message
    refuse(server, post(server.url, to_json(data)), 415, 422)


def test_truncated_images_are_refused_at_every_length(server: RunningServer) -> None:
    for length in (1, 8, 20, 33, 40, 60):
        refuse(server, post(server.url, PNG[:length], "image/png"), 415, 422)


def test_a_polyglot_is_the_image_that_it_begins_with(server: RunningServer) -> None:
    for tail in (b"PK\x05\x06" + bytes(18), b"<script>alert(1)</script>", b"%PDF-1.7", PNG):
        answer = exchange(server.url, post(server.url, PNG + tail, "text/html; image/png"[-9:]))
        text = json.loads(answer.rpartition(b"\r\n\r\n")[2])["captions"][0]["text"]
        assert text == find_text(server)
    refuse(server, post(server.url, PNG, "text/html"), 415)


@pytest.mark.slow
def test_damaged_images_of_every_format_never_stop_the_server(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "fuzz")
    make_damaged = importlib.import_module("test_hostile_images").make_damaged
    for seed in range(1000):
        data = make_damaged(seed)
        status, _, body = read_url(f"{server.url}/v1/captions", data, Content_Type="image/png")
        assert status in (200, 413, 415, 422), (seed, status, body)
        if status != 200:
            check_message(json.loads(body)["error"]["message"])


# JSON


def with_fields(text: str) -> bytes:
    """Return a request for a caption with these further fields, as JSON."""
    return to_json(PNG)[:-1] + b", " + text.encode() + b"}"


JSON = {
    "nothing": (b"", 400),
    "half": (to_json(PNG)[:-1], 400),
    "twice": (to_json(PNG) * 2, 400),
    "not UTF-8": (b'{"images": "\xff\xfe"}', 400),
    "UTF-16": (to_json(PNG).decode().encode("utf-16"), 400),
    "NUL": (to_json(PNG) + b"\0", 400),
    "a list": (b"[]", 400),
    "a number": (b"1", 400),
    "null": (b"null", 400),
    "deep lists": (b"[" * 9_000, 400),
    "deep lists, closed": (b'{"images": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", 400),
    "deep objects": (b'{"images":' * 9_000, 400),
    "repeated key": (with_fields('"seed": 1, "seed": 2'), 400),
    "lone surrogate": (with_fields(r'"prompt": "\ud800"'), 400),
    "lone surrogate as key": (with_fields(r'"\udfff": 1'), 400),
    "number of many digits": (with_fields(f'"seed": {"9" * 5000}'), 400),
    "NaN": (with_fields('"temperature": NaN'), 422),
    "Infinity": (with_fields('"temperature": Infinity'), 422),
    "-Infinity": (with_fields('"length_penalty": -Infinity'), 422),
    "1e999": (with_fields('"top_p": 1e999'), 422),
    "deadline of NaN": (with_fields('"deadline": NaN'), 422),
    "deadline of 0": (with_fields('"deadline": 0'), 422),
    "huge integer": (with_fields(f'"seed": {"9" * 400}'), 422),
    "huge beams": (with_fields('"num_beams": 1000000000'), 422),
    "beams times captions": (with_fields('"num_beams": 64, "num_captions": 64'), 422),
    "beams as text": (with_fields('"num_beams": {"a": [1]}'), 422),
    "unknown": (with_fields('"__class__": 1'), 422),
    "images as text": (b'{"images": "/etc/passwd"}', 422),
    "no images": (b'{"images": []}', 422),
    "image of both": (b'{"images": [{"data": "", "url": ""}]}', 422),
    "address of a file": (b'{"images": [{"url": "file:///etc/passwd"}]}', 403),
    "Base64 of no bytes": (b'{"images": [{"data": ""}]}', 422),
    "not Base64": (b'{"images": [{"data": "\xc3\xa4\xc3\xb6"}]}', 400),
    "data without Base64": (b'{"images": [{"data": "data:image/png,abc%"}]}', 400),
    "very long prompt": (with_fields(f'"prompt": "{"a " * 1_000_000}"'), 422),
    "very long key": (with_fields(f'"{"a" * 1_000_000}": 1'), 422),
    "very many numbers": (b'{"images": [' + b"1," * 2_000_000 + b"1]}", 413),
    "very many keys": (b"{" + b'"a":1,' * 1_000_000 + b'"b":1}', 413),
    "many numbers": (b'{"images": [' + b"1," * 9_000 + b"1]}", 422),
    "too many images": (to_json(*[PNG] * 17), 413),
    "a large image": (to_json(bytes(4_000_001)), 413),
    "a long bad word": (with_fields(f'"bad_words": ["{"a" * 101}"]'), 422),
    "many bad words": (with_fields('"bad_words": [' + '"a",' * 2_000 + '"b"]'), 422),
}


@pytest.mark.parametrize("name", JSON)
def test_hostile_json_is_refused(server: RunningServer, name: str) -> None:
    body, status = JSON[name]
    refuse(server, post(server.url, body), status)


def test_100_mb_of_json_are_refused_unread(server: RunningServer) -> None:
    before = read_peak_memory(server.pid)
    request = head(server.url, Content_Length=100_000_000) + b"[" * 1_000_000
    message = refuse(server, request, 413)
    assert "33,554,432 bytes" in message
    assert read_peak_memory(server.pid) < before + (50 << 20)


@pytest.mark.slow
def test_100_mb_of_json_in_chunks_are_refused(server: RunningServer) -> None:
    before = read_peak_memory(server.pid)
    piece = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
    answer = exchange(server.url, head(server.url, Transfer_Encoding="chunked"), *[piece] * 1600)
    assert statuses(answer) in ([413], [])  # a client that goes on sending may miss the answer
    assert read_peak_memory(server.pid) < before + (200 << 20)


# Forms


def make_part(headers: bytes, data: bytes = PNG) -> bytes:
    return b"--B\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


def make_field(name: str, value: bytes = b"1") -> bytes:
    return make_part(b'Content-Disposition: form-data; name="%s"' % name.encode(), value)


IMAGE = make_part(IMAGE_PART)
END = b"--B--\r\n"
FORMS = {
    "no boundary": (IMAGE + END, "multipart/form-data", 400),
    "empty boundary": (IMAGE + END, "multipart/form-data; boundary=", 400),
    "long boundary": (IMAGE + END, f"multipart/form-data; boundary={'B' * 5000}", 400),
    "other boundary": (IMAGE + END, "multipart/form-data; boundary=C", 400),
    "other charset": (IMAGE + END, f"{FORM}; charset=utf-7", 415),
    "no such charset": (IMAGE + END, f"{FORM}; charset={'x' * 9000}", 415),
    "no text charset": (IMAGE + END, f"{FORM}; charset=zlib", 415),
    "nothing": (b"", FORM, 422),
    "only the end": (END, FORM, 422),
    "no end": (IMAGE[:-2], FORM, 422),
    "no name": (make_part(b'Content-Disposition: form-data; filename="a"') + END, FORM, 400),
    "no disposition": (make_part(b"Content-Type: image/png") + END, FORM, 400),
    "other field": (make_part(IMAGE_PART.replace(b"images", b"../x")) + END, FORM, 422),
    "huge header": (make_part(IMAGE_PART + b"; x=" + b"a" * 100_000) + END, FORM, 400),
    "many headers": (make_part(IMAGE_PART + b"\r\nX: y" * 1000) + END, FORM, 400),
    "many fields": (IMAGE + b"".join(map(make_field, map(str, range(3000)))) + END, FORM, 400),
    "one field often": (IMAGE + make_field("prompt") * 900 + END, FORM, 422),
    "too many images": (IMAGE * 17 + END, FORM, 413),
    "image as field": (IMAGE + make_field("images") + END, FORM, 422),
    "long text": (IMAGE + make_field("prompt", b"a" * 1_000_000) + END, FORM, 422),
    "NaN": (IMAGE + make_field("temperature", b"nan") + END, FORM, 422),
    "no number": (IMAGE + make_field("num_beams", b"\xff\xfe") + END, FORM, 422),
}


@pytest.mark.parametrize("name", FORMS)
def test_hostile_forms_are_refused(server: RunningServer, name: str) -> None:
    body, kind, status = FORMS[name]
    refuse(server, post(server.url, body, kind), status)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../etc/passwd",
            "/etc/passwd",
            "C:\\\\a.png",
            "a" * 3000,
            "",
            "a\0",
            "%00",
            "ä\u202e.png",
        ),
        *("CON", "a\\r\\nX-Evil: 1", '\\"; name=\\"prompt', "image.php;.png", "~/.ssh/id_rsa"),
    ],
)
def test_names_of_files_mean_nothing(server: RunningServer, name: str) -> None:
    part = make_part(IMAGE_PART.replace(b"a.png", name.encode()))
    answer = exchange(server.url, post(server.url, part + END, FORM))
    assert statuses(answer) == [200]
    assert b"evil" not in answer.lower()
    text = json.loads(answer.rpartition(b"\r\n\r\n")[2])["captions"][0]["text"]
    assert text == find_text(server)


# Paths


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2faccess.py"),
        *("/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..\\app.py", "/static/%00"),
        *("/static/", "/static/.", "/static/index.html/..%2f..%2fapp.py", "/static/%ff%fe"),
        *(f"/static/{'a' * 5000}", f"/static/{'a/' * 3000}", "//etc/passwd", "/..%2f..%2fetc"),
        *("/%zz", "/v1/captions/../../x", "/docs", "/redoc", "/v1/captions%00", "*", "/;/?%0d%0a"),
        *("http://other.example/", "/static/%c0%ae%c0%ae/app.py", "/metrics/../v1"),
    ],
)
def test_paths_lead_nowhere(server: RunningServer, path: str) -> None:
    answer = exchange(server.url, head(server.url, "GET", path, Connection="close"))
    assert statuses(answer) == [404], answer[:300]
    assert b"import" not in answer


def test_the_page_is_what_it_is(server: RunningServer) -> None:
    folder = Path(__file__).parents[2] / "cutline" / "serving" / "page"
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in names:
        assert read_url(f"{server.url}/static/{name}")[2] == (folder / name).read_bytes()
    status, headers, _ = read_url(server.url)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]


def test_base64_may_have_spaces_and_other_letters(server: RunningServer) -> None:
    rng = random.Random(1)
    text = find_text(server)
    for _ in range(5):
        data = base64.b64encode(PNG + rng.randbytes(20)).decode()
        if rng.random() < 0.5:
            data = data.replace("+", "-").replace("/", "_").rstrip("=")
        data = "".join(letter + rng.choice(["", "", "\n", " "]) for letter in data)
        body = json.dumps({"images": [{"data": f"data:image/png;base64,{data}"}]}).encode()
        answer = exchange(server.url, post(server.url, body))
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["captions"][0]["text"] == text


def test_random_bytes_are_refused(server: RunningServer) -> None:
    rng = random.Random(2)
    starts = (b"", b"GET ", b"POST / HTTP/1.1\r\n", b"\x16\x03\x01", head(server.url)[:-2])
    for turn in range(50):
        noise = rng.randbytes(rng.choice([1, 10, 1000, 100_000]))
        answer = exchange(server.url, starts[turn % len(starts)] + noise + b"\r\n\r\n\r\n")
        assert set(statuses(answer)) <= {400, 403, 404, 405, 415}, answer
