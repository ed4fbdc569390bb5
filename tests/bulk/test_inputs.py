"""What is named on the command line, as one stream of samples with unique ids."""

import io
import json
import ntpath
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from bulk_outputs import Caption, read_table
from bulk_sources import PRIVATE, Images, write_rows
from tars import write_tar
from web_server import send

from cutline.bulk.inputs import open_collection
from cutline.bulk.output import Output, name_in_folder
from cutline.bulk.text_output import TextOutput
from cutline.config import DataSource, SourceConfig, UrlPolicy
from cutline.data import Sample
from cutline.data import text as text_module
from cutline.errors import ConfigError, CutlineError, DataError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def open_samples(paths: Sequence[str]) -> list[Sample]:
    """Return the samples of a collection; an error in it is raised."""
    samples = []
    collection = open_collection(paths, SourceConfig(), DataSource(""), UrlPolicy())
    for item in collection.iter_samples(Output()):
        if isinstance(item, CutlineError):
            raise item
        samples.append(item)
    return samples


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the paths of the images, without those whose ids are repeated."""
    images: dict[str, str] = {}
    for sample in open_samples(paths):
        images.setdefault(sample.id, str(sample.image))
    return list(images.values())


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(
        tmp_path,
        "p/10.jpg",
        "p/9.jpg",
        "p/s/1.PNG",
        "p/notes.txt",
        "p/.hidden.jpg",
        "p/[1].jpg",
        "p/ảnh.webp",
        "p/odd.dat",
        "empty/x.txt",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_are_taken_in_the_order_given(photos: Path) -> None:
    assert find_images(["p/9.jpg", "p/odd.dat", "p/[1].jpg", "p/10.jpg"]) == [
        "p/9.jpg",
        "p/odd.dat",
        "p/[1].jpg",
        "p/10.jpg",
    ]


def test_folders_are_listed_in_natural_order(photos: Path) -> None:
    images = ["p/9.jpg", "p/10.jpg", "p/[1].jpg", "p/s/1.PNG", "p/ảnh.webp"]
    assert find_images(["p"]) == images
    assert find_images(["p/"]) == images
    assert find_images([str(photos / "p")]) == [str(photos / name) for name in images]


def test_patterns_are_expanded(photos: Path) -> None:
    assert find_images(["p/*.jpg"]) == ["p/9.jpg", "p/10.jpg", "p/[1].jpg"]
    assert find_images(["p/**/*.PNG"]) == ["p/s/1.PNG"]
    assert find_images(["[op]"]) == find_images(["p"])  # a pattern may match folders
    assert find_images([str(photos / "p/?.jpg")]) == [str(photos / "p/9.jpg")]
    assert "p/notes.txt" not in find_images(["p/*"])


def test_each_image_is_listed_once(photos: Path) -> None:
    assert find_images(["p/10.jpg", "./p/10.jpg", "p/*.jpg", "p"])[:3] == [
        "p/10.jpg",
        "p/9.jpg",
        "p/[1].jpg",
    ]
    assert len(find_images(["p", "./p", "p/*"])) == 5


def test_a_path_without_images_is_refused(photos: Path) -> None:
    for path in ("p/no.jpg", "q", "p/*.gif", "", "a" * 10_000, "a\0b"):
        with pytest.raises(DataError, match="no images found; give image files, folders that"):
            find_images([path])
        # Among others, it is an error in the stream.
        collection = open_collection(["p", path], SourceConfig(), DataSource(""), UrlPolicy())
        items = list(collection.iter_samples(Output()))
        assert [type(item) for item in items] == [*[Sample] * 5, DataError]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_file_names_need_not_be_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).touch()
    (name,) = find_images([str(tmp_path)])
    assert Path(name).is_file()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser can read every folder"
)
def test_an_unreadable_folder_is_named_in_the_error(tmp_path: Path) -> None:
    fill(tmp_path, "locked/a.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(
            DataError, match=r"locked: the folder cannot be read \(Permission denied\)"
        ):
            find_images([str(tmp_path)])
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_patterns_follow_links_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "a/.hidden/3.jpg", "a/[x]/4.jpg")
    expected = find_images([f"{tmp_path}/**/*.jpg"])
    assert len(expected) == 3
    for link in ("a/up", "a/up2", "b/up"):
        (tmp_path / link).symlink_to(tmp_path)
    assert find_images([f"{tmp_path}/**/*.jpg"]) == expected
    (tmp_path / "c").symlink_to(tmp_path / "b")
    assert len(find_images([f"{tmp_path}/**/*.jpg"])) == 4


def test_pipes_and_devices_are_named_as_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(DataError, match="a pipe or a device, not an image file; give -"):
            find_images([path])


def test_ids_are_paths_below_the_folder_of_all_sources(photos: Path) -> None:
    fill(photos, "other/9.jpg")
    for paths, ids in (
        (["p/9.jpg"], ["9.jpg"]),
        (["p"], ["9.jpg", "10.jpg", "[1].jpg", "s/1.PNG", "ảnh.webp"]),
        (["p/s", "other"], ["p/s/1.PNG", "other/9.jpg"]),
        (["p/**/1.PNG"], ["s/1.PNG"]),
        (["p/9.jpg", "other/9.jpg"], ["p/9.jpg", "other/9.jpg"]),
        ([str(photos / "p/s"), "other"], ["p/s/1.PNG", "other/9.jpg"]),
    ):
        assert [sample.id for sample in open_samples(paths)] == ids


def test_the_name_of_a_source_does_not_depend_on_the_files_that_a_shell_names(
    photos: Path,
) -> None:
    def describe(*paths: str) -> object:
        collection = open_collection(paths, SourceConfig(), DataSource(""), UrlPolicy())
        return collection.describe(photos / "out.state")

    assert describe("p/9.jpg") == describe("p/9.jpg", "p/10.jpg") == {"source": ["files in ../p"]}
    assert describe("p") == describe(str(photos / "p")) != describe("p/*.jpg")


def test_a_home_folder_and_many_files_are_named_by_what_they_are(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(*paths: str) -> object:
        return open_collection(paths, SourceConfig(), DataSource(""), UrlPolicy()).names

    fill(photos, "a.csv", "b.csv")
    monkeypatch.setenv("HOME", str(photos))
    monkeypatch.setenv("USERPROFILE", str(photos))
    assert name("~/p/9.jpg") == [("files in", f"{photos}/p")]
    assert name("~/p") == [("", f"{photos}/p")]
    assert name("~/a.csv") == [("", f"{photos}/a.csv")]
    assert name("a.csv", "b.csv", "p") == [("", "p"), ("files in", ".")]


def test_images_on_another_drive_are_in_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("C:/out")
    with monkeypatch.context() as patch:
        patch.setattr(os, "path", ntpath)  # the rules of Windows
        with pytest.raises(ConfigError, match="not a file in"):
            name_in_folder(Sample("D:/a.jpg", (), "a"), folder)


def test_a_folder_is_no_image_of_itself(tmp_path: Path) -> None:
    assert name_in_folder(Sample(str(tmp_path / "a.jpg"), (), "a"), tmp_path) == "a.jpg"
    assert name_in_folder(Sample(str(tmp_path / "..a.jpg"), (), "a"), tmp_path) == "..a.jpg"
    assert name_in_folder(Sample(str(tmp_path), (), "a"), tmp_path) == "."
    for image in (str(tmp_path / "../a.jpg"), "https://a/b.jpg", b"", str(tmp_path.parent)):
        with pytest.raises(ConfigError, match="not a file in"):
            name_in_folder(Sample(image, (), "a"), tmp_path)


# Lists


def read_list(path: str, **config: bool) -> list[Sample | CutlineError]:
    """Return the samples and errors of a list."""
    source = SourceConfig(from_list=path, **config)
    collection = open_collection([], source, DataSource(""), UrlPolicy())
    return list(collection.iter_samples(Output()))


def test_lists_go_on_after_lines_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_module, "MAX_LINE_BYTES", 100)
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg\n" + b"x" * 1000 + b"\ncaf\xe9.jpg\nb.jpg")
    first, error, *others = read_list(str(path))
    assert isinstance(error, DataError)
    assert "list.txt, line 2: longer than" in str(error)
    images = [item.image for item in (first, *others) if isinstance(item, Sample)]
    assert images == ["a.jpg", "caf\udce9.jpg", "b.jpg"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_list_without_names_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"list\.txt: the list names no images; write a path"):
        read_list(str(path))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    with pytest.raises(DataError, match=r"^stdin: the list names no images"):
        read_list("-")


# Addresses in data


def test_addresses_in_data_do_not_lead_to_private_hosts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        protocols = ("ftp", "webhdfs", "sftp", "ssh", "smb", "jlab", "hdfs", "git", "s3::ftp")
        lines = [f"{protocol}://u:secret@127.0.0.1:{port}/a.jpg" for protocol in protocols]
        (tmp_path / "list.txt").write_text("\n".join([*lines, "memory://a.jpg"]))
        *errors, sample = read_list(str(tmp_path / "list.txt"), allow_urls=True)
        assert isinstance(sample, Sample)
        for protocol, error in zip(protocols, errors, strict=True):
            assert str(error).startswith(f"{protocol}://…@127.0.0.1:{port}/a.jpg: not an address")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".tar", ".png"])
def test_credentials_are_written_nowhere(
    suffix: str, images: Images, caption: Caption, scenes: list[Path]
) -> None:
    def add_user(address: str) -> str:
        return address.replace("://", "://me:secret@")

    addresses = list(map(add_user, [*images.serve()[:2], images.server.url("/missing.png")]))
    words: list[object] = addresses
    if suffix == ".jsonl":
        path = images.folder / "list.jsonl"
        path.write_text("".join(json.dumps({"url": url}) + "\n" for url in addresses))
        words = [path, "--allow-urls"]
    elif suffix == ".txt":
        path = images.folder / "list.txt"
        path.write_text("\n".join(addresses))
        words = ["--from-list", path, "--allow-urls"]
    elif suffix == ".tar":
        image, row = scenes[0].read_bytes(), json.dumps({"url": addresses[0]})
        shard = write_tar(images.folder / "0.tar", {"a.png": image, "a.json": row, "b.png": image})
        images.server.answers["/0.tar"] = send(Path(shard).read_bytes())
        words = [add_user(images.server.url("/0.tar")), add_user(images.server.url("/1.tar"))]
    images.server.requests.clear()
    out = images.folder / "out"
    code, _, err = caption(*words, "-o", out / "captions.jsonl", *PRIVATE)
    assert code == 3
    assert "://…@127.0.0.1" in err
    rows = read_table(out / "captions.jsonl")
    assert len(rows) == 2
    assert all("://…@127.0.0.1" in row["id"] for row in rows)
    assert "://…@127.0.0.1" in rows[0]["url"]
    assert all("Authorization" in headers for _, headers in images.server.requests)
    if suffix == ".tar":
        assert caption(*words, "-o", out / "shards", *PRIVATE)[0] == 3
    written = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".tar"]
    assert len(written) > 2
    assert not any(b"secret" in path.read_bytes() for path in written)
    assert not any("secret" in str(path) for path in out.rglob("*"))
    assert "secret" not in err


def test_a_table_of_addresses_that_are_not_allowed_shows_no_credentials(
    images: Images, caption: Caption
) -> None:
    table = write_rows(images.folder / "list.csv", ["http://me:secret@127.0.0.1/a.jpg"])
    names = write_rows(images.folder / "list.txt", ["http://me:secret@127.0.0.1/a.jpg"])
    for index, words in enumerate(([table], ["--from-list", names])):
        code, _, err = caption(*words, "-o", images.folder / f"{index}.jsonl")
        assert code == 1
        assert "--allow-urls" in err
        assert "secret" not in err


def test_an_output_without_original_captions_reads_no_texts(photos: Path) -> None:
    (photos / "p" / "9.txt").write_bytes(b"caf\xe9")
    collection = open_collection(["p"], SourceConfig(), DataSource(""), UrlPolicy())
    items = list(collection.iter_samples(Output()))
    assert [isinstance(item, Sample) for item in items] == [False, *[True] * 5]
    texts = TextOutput(None, photos, ".txt", "skip")
    assert list(collection.iter_samples(texts)) == [
        item for item in items if isinstance(item, Sample)
    ]
