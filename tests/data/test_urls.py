"""Images and shards at web addresses."""

import gzip
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tars import write_tar
from web_server import WebServer, send, send_raw

from cutline.config import UrlPolicy
from cutline.data import urls
from cutline.data.tar import TAR_ERRORS, read_members
from cutline.data.tar_reader import TarSource
from cutline.data.urls import UrlImage, open_url
from cutline.errors import DataError, ImageError

LOCAL = UrlPolicy(("127.0.0.1",), timeout=5)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def test_images_are_read_in_threads_and_other_processes(server: WebServer) -> None:
    images = [UrlImage(server.url(f"/{number}.jpg"), LOCAL) for number in range(40)]
    for number in range(40):
        server.answers[f"/{number}.jpg"] = send(b"%d" % number)
    copies = pickle.loads(pickle.dumps(images))
    assert copies == images
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(UrlImage.read, copies)) == [b"%d" % number for number in range(40)]


def test_errors_are_one_sentence_without_the_password(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("/a b.jpg").replace("//", "//me:secret@")
    image = UrlImage(url, LOCAL)
    name = url.replace("me:secret", "…")
    assert str(image) == name
    assert "secret" not in repr(image)
    with pytest.raises(ImageError) as error:
        image.read()
    assert str(error.value) == f"{name}: the server answers 404 Not Found; check the address"
    with pytest.raises(ImageError, match=r"private host \(127\.0\.0\.1\)"):
        UrlImage(url, UrlPolicy()).read()
    with pytest.raises(ImageError, match=r"^x\\ny: it contains control characters"):
        UrlImage("x\ny", LOCAL).read()
    with pytest.raises(ImageError, match=r"^http://ax*…: not a valid address; correct it$"):
        UrlImage(f"http://a{'x' * 100_000}", LOCAL).read()
    monkeypatch.setattr(urls, "MAX_IMAGE_BYTES", 10)
    server.answers["/large"] = send(b"x" * 11)
    with pytest.raises(ImageError, match="more than 10 bytes"):
        UrlImage(server.url("/large"), LOCAL).read()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_shards_are_streamed(server: WebServer, tmp_path: Path, compress: type) -> None:
    images = {f"{number}.jpg": bytes([number]) * 100_000 for number in range(10)}
    shard = compress(Path(write_tar(tmp_path / "s.tar", images)).read_bytes())
    server.answers["/s.tar"] = send(shard, Content_Encoding="x-gzip")
    with open_url(server.url("/s.tar"), LOCAL) as stream:
        members = list(read_members(TarSource(stream, seekable=False), "s.tar"))
    assert [content for _, _, content in members] == list(images.values())
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(shard)
    server.answers["/s.tar"] = send_raw(head, shard[: len(shard) // 2])
    with open_url(server.url("/s.tar"), LOCAL) as stream, pytest.raises(TAR_ERRORS, match="ends"):
        list(read_members(TarSource(stream, seekable=False), "s.tar"))


def test_files_that_cannot_be_opened_are_data_errors(server: WebServer) -> None:
    with pytest.raises(DataError, match=r"^http://…@127.*/s\.tar: the server answers 404"):
        open_url(server.url("/s.tar").replace("//", "//me:secret@"), LOCAL)
