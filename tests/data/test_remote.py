"""Images and files that fsspec reads, in memory and on the disk."""

import os
import pickle
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.registry import known_implementations

from cutline.data import remote
from cutline.data.find import match_paths
from cutline.data.folder import iter_folder
from cutline.data.remote import RemoteImage, is_remote_address, is_store_address, open_remote
from cutline.data.remote_folder import walk_remote
from cutline.data.tolerant import raise_errors
from cutline.data.walk import scan_images
from cutline.errors import ConfigError, DataError, ImageError

STORES = "abfs abfss adl az file gcs gs hf local memory oss s3 s3a"
on_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names, links and pipes")


@pytest.fixture(autouse=True)
def memory() -> Iterator[Any]:
    """Return the file system in memory, which is empty before and after each test."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def fill(filesystem: Any, *paths: str) -> None:
    for path in paths:
        filesystem.pipe_file(path, path.encode())


def names(address: str) -> list[str]:
    return [image.name for image in walk_remote(address)]


def test_addresses_are_recognized() -> None:
    for text in (
        "s3://b/a.jpg",
        "hf://datasets/a/b",
        "memory://a",
        "file:///a",
        "GS://b",
        "xx::y://",
    ):
        assert is_remote_address(text), text
    for text in ("a.jpg", "/a/b", "http://a", "HTTPS://a", "C:\\a", "c://a", "a b://c", "pipe:cat"):
        assert not is_remote_address(text), text


def test_only_addresses_that_name_no_host_may_be_in_data() -> None:
    for text in ("s3://b/a.jpg", "GS://b/a", "hf://datasets/a/b", "abfss://c@d/e", "file:///a"):
        assert is_store_address(text), text
    for protocol in known_implementations:
        if protocol not in STORES.split():
            assert not is_store_address(f"{protocol}://127.0.0.1/a.jpg"), protocol
    for text in ("s3::ftp://h/a", "a.jpg", "a b://c", "http://h/a.jpg", "nope://h/a"):
        assert not is_store_address(text), text


def test_a_folder_is_walked_in_natural_order(memory: Any) -> None:
    fill(
        memory,
        "/p/10.jpg",
        "/p/2.JPEG",
        "/p/b/10/x.png",
        "/p/b/9/x.png",
        "/p/b.png",
        "/p/.hidden.jpg",
        "/p/.cache/a.jpg",
        "/p/notes.txt",
        "/pq/a.jpg",
    )
    expected = ["2.JPEG", "10.jpg", "b/9/x.png", "b/10/x.png", "b.png"]
    for address in ("memory://p", "memory://p/", "memory:///p//"):
        assert names(address) == expected
        assert [image.read()[:3] for image in walk_remote(address)] == [b"/p/"] * 5
        assert not any("p//" in image.address for image in walk_remote(address))
    images = list(walk_remote("memory://p"))
    assert [image.read() for image in images] == [f"/p/{name}".encode() for name in expected]
    assert [str(image) for image in images] == [f"memory://p/{name}" for name in expected]
    assert names("memory://") == [*(f"p/{name}" for name in expected), "pq/a.jpg"]


def test_folders_are_listed_when_it_is_their_turn(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(memory, *(f"/p/{number}/a.jpg" for number in range(50)))
    listed = []
    list_folder = type(memory).ls
    monkeypatch.setattr(
        type(memory),
        "ls",
        lambda self, path, **kw: listed.append(path) or list_folder(self, path, **kw),
    )
    images = walk_remote("memory://p")
    assert [next(images).name for _ in range(3)] == ["0/a.jpg", "1/a.jpg", "2/a.jpg"]
    assert listed == ["/p", "/p/0", "/p/1", "/p/2"]


def test_a_file_may_have_any_name(memory: Any) -> None:
    fill(memory, "/p/photo", "/p/a[1].jpg", "/p/a1.jpg")
    assert names("memory://p/photo") == ["photo"]
    assert names("memory://p/a[1].jpg") == ["a[1].jpg"]
    assert names("memory://p/a[12].jpg") == ["a1.jpg"]


TREE = (
    "1.jpg",
    "a/1.jpg",
    "a/2.png",
    "a/b/1.jpg",
    "a/b/c/1.jpg",
    "a.jpg/1.png",
    "ab/1.jpg",
    "é/?.jpg",
)
PATTERNS = (
    "*",
    "*.jpg",
    "**",
    "**/*.jpg",
    "a/**",
    "a/**/*.jpg",
    "**/b/**",
    "**/b/*",
    "a*/1.jpg",
    "*/*/*.jpg",
    "a/[!1].*",
    "?/?.*",
    "**/**/1.jpg",
    "[a]/b/c/*",
    "é/[?].jpg",
)


@on_posix
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_what_they_match_on_the_disk(tmp_path: Path, pattern: str) -> None:
    for name in (*TREE, ".x/1.jpg", "a/.1.jpg", "a/1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = set()
    for path in match_paths(f"{tmp_path}/{pattern}"):
        found = [path] if Path(path).is_file() else scan_images(Path(path))
        expected |= {os.path.normpath(image) for image in found if Path(image).suffix != ".txt"}
    images = [image.address for image in walk_remote(f"file://{tmp_path}/{pattern}")]
    assert expected == {image.removeprefix("file://") for image in images}
    assert len(set(images)) == len(images) > 0


def test_names_are_relative_to_the_folder_before_the_wildcards(memory: Any) -> None:
    fill(memory, "/p/a/1.jpg", "/p/b/1.jpg", "/1.jpg")
    assert names("memory://p/*/1.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert names("memory://p/b/*") == ["1.jpg"]
    assert names("memory:///*.jpg") == names("memory://*.jpg") == ["1.jpg"]


@on_posix
def test_odd_names_on_the_disk_are_read(tmp_path: Path) -> None:
    odd = [
        "a b.jpg",
        "a\nb.jpg",
        "ảnh.jpg",
        "100%.jpg",
        "a#b?.jpg",
        "x::y.jpg",
        "memory:x.jpg",
        "~.jpg",
        "d::s3:/e.png",
        "a\\b.jpg",
    ]
    if sys.platform == "linux":
        odd.append(os.fsdecode(b"\xff.jpg"))
    for name in odd:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(os.fsencode(name))
    images = list(walk_remote(f"file://{tmp_path}"))
    assert {image.name for image in images} == set(odd)
    assert [image.read() for image in images] == [os.fsencode(image.name) for image in images]
    with open_remote(f"file://{tmp_path}/x::y.jpg") as file:
        assert file.read() == b"x::y.jpg"


@on_posix
def test_the_disk_is_walked_as_folders_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("p/1.jpg", "p/sub/2.jpg", "other/3.jpg", "p/.h/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    folder = tmp_path / "p"
    (folder / "loop").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path / "other")
    (folder / "link.jpg").symlink_to(tmp_path / "other/3.jpg")
    (folder / "gone.jpg").symlink_to(tmp_path / "missing")
    os.mkfifo(folder / "pipe.jpg")
    images = list(walk_remote(f"file://{folder}"))
    expected = [f"file://{sample.image}" for sample in raise_errors(iter_folder(folder))]
    assert [image.address for image in images] == expected
    assert [record.message.rpartition("/")[2] for record in caplog.records] == [
        "pipe.jpg: skipped, because it is not a regular file"
    ] * 2
    assert {image.name: image.size for image in images} == {
        "1.jpg": 7,
        "gone.jpg": None,
        "link.jpg": 11,
        "sub/2.jpg": 11,
    }
    with pytest.raises(ImageError, match=r"gone\.jpg: cannot be read \(no such file or folder\)"):
        images[1].read()
    for read in (
        RemoteImage(f"file://{folder}/pipe.jpg").read,
        RemoteImage("file:///dev/zero").read,
    ):
        with pytest.raises(ImageError, match="not a regular file"):
            read()
    with pytest.raises(DataError, match="not a regular file"):
        list(walk_remote("file:///dev/zero"))


def test_stamps_change_with_the_file(memory: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for address in (f"file://{path}", "memory://a.jpg"):
        stamps = []
        for content in (b"1", b"22", b"33"):
            with fsspec.open(address, "wb") as file:
                file.write(content)
            time.sleep(0.02)
            (image,) = walk_remote(address)
            stamps.append(image.stamp())
            assert stamps[-1] == RemoteImage(address).stamp() == image.stamp()
        assert len(set(stamps)) == 3
    assert stamps[0].startswith("1-")
    assert RemoteImage("memory://missing").stamp() == RemoteImage("x::y://z").stamp() == ""


def test_images_are_read_in_threads_and_other_processes(memory: Any, tmp_path: Path) -> None:
    fill(memory, *(f"/p/{number}.jpg" for number in range(50)))
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"%d" % number)
    images = list(walk_remote("memory://p"))
    assert pickle.loads(pickle.dumps(images)) == images
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(RemoteImage.read, images)) == [str(i)[8:].encode() for i in images]
    with ProcessPoolExecutor(1, get_context("spawn")) as workers:
        files = list(walk_remote(f"file://{tmp_path}"))
        assert list(workers.map(RemoteImage.read, files)) == [b"0", b"1", b"2", b"3"]


def test_files_are_opened_one_beside_the_other(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"image\nb.jpg\n")
    fill(memory, "/image\nb.jpg\n")
    for address in (f"file://{tmp_path}/a.csv", "memory://image\nb.jpg\n"):
        with open_remote(address) as file, open_remote(address) as other:
            assert file.readline().endswith(b"image\n")
            assert list(other)[1] == b"b.jpg\n"
            assert file.read() == b"b.jpg\n"
            file.seek(0)
            assert len(file.read(3)) == 3


def test_sizes_are_limited(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_IMAGE_BYTES", 10)
    memory.pipe_file("/a.jpg", b"x" * 10)
    memory.pipe_file("/b.jpg", b"x" * 11)
    assert [image.read() for image in walk_remote("memory://a.jpg")] == [b"x" * 10]
    for image in (RemoteImage("memory://b.jpg"), *walk_remote("memory://b.jpg")):
        with pytest.raises(ImageError, match=r"b\.jpg: it has more than 10 bytes; remove it"):
            image.read()


CHAINED = (
    "simplecache::http://127.0.0.1/x",
    "filecache::s3://b/x",
    "zip://a.jpg::memory://x.zip",
    "memory::http://127.0.0.1/x",
    "reference://x",
    "generic://http://x",
    "dir://x",
    "data://image/png;base64,AAAA",
    "tar://x",
    "Simplecache://x",
    "http://a/b",
    "a.jpg",
)


@pytest.mark.parametrize("address", CHAINED)
def test_addresses_are_not_chained(address: str) -> None:
    with pytest.raises(ImageError, match="not an address of one file system"):
        RemoteImage(address).read()
    for function in (open_remote, names):
        with pytest.raises(DataError, match="not an address of one file system"):
            function(address)


def test_colons_in_a_path_begin_no_chain(memory: Any) -> None:
    with pytest.raises(ImageError, match="no such file"):
        RemoteImage("memory://a::http://127.0.0.1:1/x").read()


def test_errors_are_one_sentence(memory: Any, tmp_path: Path) -> None:
    fill(memory, "/p/a.txt")
    missing = r"cannot be read \(no such file or folder\); check the address and your access to it$"
    for function in (open_remote, names):
        with pytest.raises(DataError, match=rf"^memory://x/y\.jpg: {missing}"):
            function("memory://x/y.jpg")
    with pytest.raises(DataError, match=rf"^memory://x/: {missing}"):
        names("memory://x/*.jpg")
    for address in ("memory://p", "memory://p/a*", "memory://p/*.jpg"):
        with pytest.raises(DataError, match="no images found"):
            names(address)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        open_remote(f"file://{tmp_path}")
    with pytest.raises(ImageError, match=r"^nope://x\\ny: nope:// is unknown; "):
        RemoteImage("nope://x\ny").read()
    with pytest.raises(DataError, match=r"^…x*: |^nope://x*…: nope:// is unknown; "):
        open_remote(f"nope://{'x' * 10_000}")
    assert str(RemoteImage("ftp://me:secret@host/a.jpg")) == "ftp://…@host/a.jpg"


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed")
def test_packages_that_are_not_installed_are_named() -> None:
    message = r"^s3://b/a\.jpg: needs s3fs, which is not installed: pip install s3fs$"
    for function in (open_remote, names):
        with pytest.raises(ConfigError, match=message):
            function("s3://b/a.jpg")
    with pytest.raises(ImageError, match=message):
        RemoteImage("s3://b/a.jpg").read()
