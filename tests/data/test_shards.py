"""Tar shards, read all at once or streamed by several readers."""

import functools
import json
import logging
import pickle
import shutil
import tarfile
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tars import write_tar

from cutline.config import DataSource
from cutline.data import Sample, is_shards, list_shards, open_data, stream_shards
from cutline.errors import ConfigError, DataError, ImageError
from cutline.image import open_image


def encode_png(gray: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 3), (gray, gray, gray)).save(file, "PNG")
    return file.getvalue()


def write_shards(folder: Path, sizes: list[int]) -> str:
    """Write shards of these sizes, whose captions number the samples."""
    number = 0
    for shard, size in enumerate(sizes):
        members: dict[str, bytes | str] = {}
        for _ in range(size):
            members |= {
                f"{number:04d}.png": encode_png(number % 256),
                f"{number:04d}.txt": f"number {number}",
            }
            number += 1
        write_tar(folder / f"{shard:03d}.tar", members)
    return str(folder)


def stream(urls: str, **options: int) -> list[Sample]:
    """Stream an epoch; by default with one reader, unshuffled."""
    defaults = {"seed": 0, "epoch": 0, "reader": 0, "num_readers": 1, "shuffle_buffer": 0}
    return list(stream_shards(urls, **{**defaults, **options}))


# ------------------------------------------------------------------------------------------ reading


def test_images_are_located_without_reading_them(tmp_path: Path) -> None:
    members = {
        "000.png": encode_png(1),
        "000.txt": " a dog\n\na cat \n",
        "000.json": '{"caption": "no"}',
        "sub/001.png": encode_png(2),
        "notes": "",
    }
    shard = write_tar(tmp_path / "a.tar", members)
    first, second = open_data(shard)
    assert (first.id, first.captions, str(first.image)) == (
        "a.tar/000",
        ("a dog", "a cat"),
        f"{shard}/000.png",
    )
    assert (second.id, second.captions, str(second.image)) == (
        "a.tar/sub/001",
        (),
        f"{shard}/sub/001.png",
    )
    for sample, gray in ((first, 1), (second, 2)):
        assert sample.image.read() == encode_png(gray)
        copy = pickle.loads(pickle.dumps(sample.image))
        assert open_image(copy).getpixel((0, 0)) == (gray, gray, gray)


@pytest.mark.parametrize(
    ("members", "captions"),
    [
        ({"a.json": {"caption": "a dog"}}, ("a dog",)),
        ({"a.json": {"captions": ["a dog", "a cat"]}}, ("a dog", "a cat")),
        ({"a.json": {"text": "a dog", "url": "x"}}, ("a dog",)),
        ({"a.json": ["a dog"]}, ("a dog",)),
        ({"a.captions.json": ["a dog", " "], "a.json": {"caption": "no"}}, ("a dog",)),
        ({"a.txt": "\n", "a.json": {"caption": "a dog"}}, ("a dog",)),
        ({"a.json": {"caption": None}}, ()),
        ({"a.caption": "a dog", "a.json": {"caption": "no"}}, ("a dog",)),
        ({"a.caption": "no", "a.txt": "a dog"}, ("a dog",)),
    ],
)
def test_captions_are_read_from_text_or_json(
    tmp_path: Path, members: dict[str, object], captions: tuple[str, ...]
) -> None:
    texts = {
        name: content if isinstance(content, str) else json.dumps(content)
        for name, content in members.items()
    }
    shard = write_tar(tmp_path / "a.tar", {"a.JPG": b"x", **texts})
    assert [sample.captions for sample in open_data(shard)] == [captions]
    assert [sample.captions for sample in stream(shard)] == [captions] * bool(captions)


def test_a_key_ends_at_the_first_dot(tmp_path: Path) -> None:
    """As in webdataset, so that a mask or an embedding does not separate image and caption."""
    members = {
        "d.v1/a.tif": b"x",
        "d.v1/a.mask.png": b"y",
        "d.v1/a.npy": b"z",
        "d.v1/a.txt": "a dog",
        ".hidden.jpg": b"x",
        "._a.jpg": b"x",
    }
    shard = write_tar(tmp_path / "a.tar", members)
    (sample,) = open_data(shard)
    assert (str(sample.image), sample.captions, sample.id) == (
        f"{shard}/d.v1/a.tif",
        ("a dog",),
        "a.tar/d.v1/a",
    )
    assert stream(shard) == [Sample(b"x", ("a dog",), "a.tar/d.v1/a")]


def test_a_tar_file_of_a_folder_reads_like_the_folder(tmp_path: Path) -> None:
    """`tar cf` does not keep pairs together, and writes ./ before names."""
    folder = tmp_path / "photos"
    (folder / "s").mkdir(parents=True)
    for name in ("a", "b", "s/c"):
        (folder / f"{name}.png").write_bytes(encode_png(len(name)))
        (folder / f"{name}.txt").write_text(f"image {name}\nanother caption\n")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for suffix in (".png", ".txt"):
            for name in ("a", "b", "s/c"):
                tar.add(folder / (name + suffix), f"./{name}{suffix}")
    archived = {sample.id: sample for sample in open_data(tmp_path / "photos.tar")}
    for sample in open_data(folder):
        copy = archived[f"photos.tar/{sample.id.removesuffix('.png')}"]
        assert copy.captions == sample.captions
        assert open_image(copy.image).tobytes() == open_image(sample.image).tobytes()


def test_shards_are_listed_from_folders_patterns_and_urls(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [1] * 11)
    shards = [str(tmp_path / f"s/{n:03d}.tar") for n in range(11)]
    assert list_shards(f"{tmp_path}/s") == list_shards(f"{tmp_path}/s/*.tar") == shards
    assert list_shards(f"{tmp_path}/s/00?.tar::{tmp_path}/s/010.tar::{tmp_path}/s") == shards
    pytest.importorskip("braceexpand")
    assert list_shards(f"{tmp_path}/s/{{000..010}}.tar") == shards
    assert list_shards("https://host/{0..1}.tar::pipe:cat {a,b}") == [
        "https://host/0.tar",
        "https://host/1.tar",
        "pipe:cat a",
        "pipe:cat b",
    ]
    assert len(open_data(f"{tmp_path}/s/{{000..003}}.tar")) == 4
    assert len(open_data(tmp_path / "s")) == 11
    assert len(open_data(DataSource(str(tmp_path), split="s"))) == 11


def test_shards_are_recognized(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [1])
    for path in (
        "a.tar",
        "a/{0..3}.tar",
        "a.TAR",
        "b/*.tar.gz",
        "pipe:cat x",
        "https://host/a.tar?key=1",
        "x.jsonl::a.tar",
        tmp_path / "s",
    ):
        assert is_shards(path)
    for path in ("", "a.jsonl", "photos", "tar", tmp_path, "https://host/a.jsonl"):
        assert not is_shards(path)
    (tmp_path / "s/loose.jpg").touch()  # the images may have been extracted from the shards
    assert not is_shards(tmp_path / "s")
    assert [sample.id for sample in open_data(tmp_path / "s")] == ["loose.jpg"]
    (tmp_path / "s/loose.jpg").rename(tmp_path / "a.jpg")
    (tmp_path / "s/metadata.jsonl").write_text('{"file_name": "a.jpg"}')
    assert not is_shards(tmp_path / "s")


def test_img2datasets_shards_are_read(tmp_path: Path) -> None:
    metadata = json.dumps(
        {
            "caption": "a dog",
            "url": "https://x/a",
            "key": "000000000",
            "status": "success",
            "error_message": None,
        }
    )
    write_tar(
        tmp_path / "00000.tar",
        {"000000000.jpg": b"x", "000000000.txt": "a dog", "000000000.json": metadata},
    )
    (tmp_path / "00000.parquet").touch()
    (tmp_path / "00000_stats.json").write_text("{}")
    assert [(sample.id, sample.captions) for sample in open_data(tmp_path)] == [
        ("00000.tar/000000000", ("a dog",))
    ]


def test_missing_shards_are_refused(tmp_path: Path) -> None:
    for path in ("no.tar", "*.tar", "{000..001}.tar"):
        for read in (open_data, list_shards, stream):
            with pytest.raises(
                DataError, match=r"tar: no shards found; give \.tar files, a folder"
            ):
                read(f"{tmp_path}/{path}")
    with pytest.raises(DataError, match=r"https://host/a\.tar: only training with `data.stream`"):
        open_data("https://host/a.tar")
    with pytest.raises(DataError, match="has no split `val`"):
        open_data(DataSource(write_tar(tmp_path / "a.tar", {}), split="val"))


# ----------------------------------------------------------------------------------- damaged shards


def damage(data: bytes, kind: str) -> bytes:
    match kind:
        case "header":
            return data[: 2 * 512 + 100] + b"\xff" * 100 + data[2 * 512 + 200 :]
        case "truncated":
            return data[: 4 * 512 + 10]
        case "empty":
            return b""
    return b"not tar" * 1000


@pytest.mark.parametrize("kind", ["header", "truncated", "empty", "other"])
def test_a_damaged_shard_is_named_in_the_error(tmp_path: Path, kind: str) -> None:
    members = {"a.jpg": b"x", "a.txt": "a dog", "b.jpg": b"x" * 2000, "b.txt": "a cat"}
    shard = Path(write_tar(tmp_path / "a.tar", members))
    shard.write_bytes(damage(shard.read_bytes(), kind))
    message = r"a\.tar: not a tar file that can be read \(.*\); decompress it if it is compressed"
    with pytest.raises(DataError, match=message):
        open_data(shard)
    message = r"a\.tar: the shard cannot be read \(.*\); check that it exists, copy it again, or"
    with pytest.raises(DataError, match=message):
        stream(str(shard))


def test_a_compressed_shard_can_only_be_streamed(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar.gz", {"a.jpg": b"x", "a.txt": "a dog"}, "w:gz")
    assert [sample.captions for sample in stream(shard)] == [("a dog",)]
    with pytest.raises(DataError, match="decompress it if it is compressed"):
        open_data(shard)


def test_invalid_captions_stop_reading_but_not_a_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = {
        "a.jpg": b"x",
        "a.json": "{",
        "b.jpg": b"x",
        "b.txt": "fine",
        "c.jpg": b"x",
        "c.txt": b"caf\xe9",
        "d.jpg": b"x",
        "d.json": '{"caption": "a",\n"caption": "b"}',
    }
    shard = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=r"a\.tar/a\.json: not JSON"):
        open_data(shard)
    assert [sample.id for sample in stream(shard)] == ["a.tar/b"]
    assert "a.tar/a.json: not JSON" in caplog.text
    assert "a.tar/c.txt, line 1: not UTF-8 text" in caplog.text
    assert "a.tar/d.json, line 2: the key `caption` occurs twice" in caplog.text


def test_an_image_whose_shard_is_gone_is_an_image_error(tmp_path: Path) -> None:
    shard = Path(write_tar(tmp_path / "a.tar", {"a.jpg": b"x" * 100}))
    (sample,) = open_data(shard)
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(ImageError) as caught:
        open_image(sample.image)
    message = f"{shard}/a.jpg: the shard ends before the image does; copy it again"
    assert str(caught.value) == message
    shard.unlink()
    message = r"a\.tar/a\.jpg: the shard cannot be opened \(No such file or directory\)"
    with pytest.raises(ImageError, match=message):
        open_image(sample.image)


def test_an_unreadable_image_is_named_in_the_error(tmp_path: Path) -> None:
    (sample,) = open_data(write_tar(tmp_path / "a.tar", {"a.jpg": b"no image"}))
    with pytest.raises(ImageError, match=r"a\.tar/a\.jpg: not an image that can be read"):
        open_image(sample.image)


# ---------------------------------------------------------------------------------------- streaming


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    num_readers=st.integers(1, 7),
    shuffle_buffer=st.integers(0, 6),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_readers_share_all_samples(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    num_readers: int,
    shuffle_buffer: int,
    seed: int,
    epoch: int,
) -> None:
    urls = write_shards(tmp_path_factory.mktemp("s"), sizes)

    def stream_all() -> list[list[Sample]]:
        return [
            stream(
                urls,
                seed=seed,
                epoch=epoch,
                reader=reader,
                num_readers=num_readers,
                shuffle_buffer=shuffle_buffer,
            )
            for reader in range(num_readers)
        ]

    parts = stream_all()
    captions = Counter(sample.captions[0] for part in parts for sample in part)
    assert captions == Counter(f"number {n}" for n in range(sum(sizes)))
    assert parts == stream_all()
    if num_readers <= len(sizes):  # each shard belongs to one reader
        shards = [{sample.id.partition("/")[0] for sample in part} for part in parts]
        assert sum(map(len, shards)) == len(set().union(*shards))
    else:  # each reader has the same number of samples
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_streaming_yields_the_same_samples_as_reading(tmp_path: Path) -> None:
    urls = write_shards(tmp_path, [3, 2])
    streamed = {sample.id: sample for sample in stream(urls, shuffle_buffer=3)}
    samples = open_data(urls)
    assert len(streamed) == len(samples)
    for sample in samples:
        assert streamed[sample.id].captions == sample.captions
        assert streamed[sample.id].image == sample.image.read()


def test_order_depends_on_seed_epoch_and_buffer(tmp_path: Path) -> None:
    urls = write_shards(tmp_path, [4] * 6)

    def order(**options: int) -> list[str]:
        return [sample.id for sample in stream(urls, **options)]

    unshuffled = order()
    assert order(shuffle_buffer=1) == unshuffled
    for start in range(0, 24, 4):  # the order within a shard is kept
        assert unshuffled[start : start + 4] == sorted(unshuffled[start : start + 4])
    changes = (
        {"epoch": 1},
        {"epoch": 2},
        {"seed": 1},
        {"shuffle_buffer": 8},
        {"shuffle_buffer": 99},
    )
    assert len({tuple(order(**options)) for options in ({}, *changes)}) == 6
    shuffled = order(shuffle_buffer=8)
    assert max(abs(shuffled.index(id) - index) for index, id in enumerate(unshuffled)) > 1


def test_a_reader_has_other_shards_in_other_epochs(tmp_path: Path) -> None:
    urls = write_shards(tmp_path, [4] * 6)
    epochs = [
        {sample.id for sample in stream(urls, epoch=epoch, num_readers=3)} for epoch in range(4)
    ]
    assert any(ids != epochs[0] for ids in epochs)


def test_incomplete_samples_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = {
        "a.jpg": b"x",
        "b.txt": "no image",
        "c.jpg": b"x",
        "c.txt": "a dog",
        "d.jpg": b"x",
        "d.txt": " \n",
    }
    shard = write_tar(tmp_path / "a.tar", members)
    with caplog.at_level(logging.INFO):
        assert [sample.id for sample in stream(shard)] == ["a.tar/c"]
        stream(write_shards(tmp_path / "s", [2]))
    assert [record.getMessage() for record in caplog.records] == [
        f"{shard}: 1 samples; skipped 3 without image or caption",
        f"{tmp_path / 's'}: 2 samples",
    ]


def read_first(urls: str) -> None:
    samples = stream_shards(
        urls, seed=0, epoch=0, reader=0, num_readers=1, shuffle_buffer=0, allow_pipe=True
    )
    next(samples)
    samples.close()


def test_a_stream_can_be_closed_early(tmp_path: Path) -> None:
    read_first(write_shards(tmp_path, [3]))


def test_commands_are_streamed_to_their_end(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    urls = write_shards(tmp_path, [3, 2])
    piped = stream(f"pipe:cat {tmp_path}/{{000..001}}.tar", allow_pipe=True)
    assert sorted(sample.captions for sample in piped) == sorted(
        sample.captions for sample in stream(urls)
    )
    padded = f"pipe:cat {tmp_path}/000.tar && head -c 300000 /dev/zero"
    assert len(stream(padded, allow_pipe=True)) == 3
    read_first(f"pipe:cat {tmp_path}/000.tar; sleep 0.1")
    for command in (
        "pipe:false",
        f"pipe:cat {tmp_path}/no.tar",
        f"pipe:cat {tmp_path}/000.tar; exit 3",
        "odd://a.tar",
    ):
        with pytest.raises(DataError) as caught:
            stream(command, allow_pipe=True)
        assert str(caught.value).startswith(f"{command}: the shard cannot be read (")
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "urls",
    [
        "pipe:touch {canary}",
        "PIPE:touch {canary}",
        " pipe:touch {canary}",
        "a.tar::pipe:touch {canary}",
        "{{p,q}}ipe:touch {canary};.tar",
        "{{pipe:touch {canary};,a}}.tar",
        "pipe://touch {canary}.tar",
    ],
)
def test_commands_run_only_if_allowed(tmp_path: Path, urls: str) -> None:
    pytest.importorskip("braceexpand")
    canary = tmp_path / "canary"
    with pytest.raises(
        ConfigError, match=r"(?i:pipe):\S+ .*: a shell command; .*pass --allow-pipe"
    ):
        stream(urls.format(canary=canary))
    with pytest.raises((ConfigError, DataError)):
        open_data(urls.format(canary=canary))
    assert not canary.exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://x/';touch canary;'.tar",
        "http://x/a b.tar",
        "pi\npe://touch canary",
        "file:///dev/zero\0",
        '-o canary "http://x/a.tar',
    ],
)
def test_invalid_urls_start_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    pytest.importorskip("webdataset")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="not a valid URL: percent-encode its special characters"):
        stream(url)
    assert not list(tmp_path.iterdir())


def test_urls_are_not_rewritten_to_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package webdataset rewrites URLs as an environment variable says."""
    pytest.importorskip("webdataset")
    monkeypatch.setenv("GOPEN_REWRITE", f"s3://=pipe:touch {tmp_path}/")
    with pytest.raises(ConfigError, match="a shell command"):
        stream("s3://canary")
    assert not list(tmp_path.iterdir())


def test_a_file_whose_name_looks_like_a_command_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"a.jpg": b"x", "a.txt": "a dog"}
    write_tar(tmp_path / "pipe:touch canary;.tar", members)
    monkeypatch.chdir(tmp_path)
    for urls in (".", "*.tar"):
        for allow_pipe in (False, True):
            assert len(stream(urls, allow_pipe=allow_pipe)) == 1
        assert len(open_data(urls)) == 1
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("braces", ["{0..999999999}", "{0..9999}{0..9999}", "{" * 5000])
def test_braces_that_stand_for_too_many_shards_are_refused(braces: str) -> None:
    pytest.importorskip("braceexpand")
    with pytest.raises(DataError, match="the braces are invalid"):
        list_shards(f"s/{braces}.tar")


@pytest.mark.skipif(
    shutil.which("curl") is None,
    reason="webdataset reads URLs through curl, which is not installed",
)
def test_shards_are_streamed_over_http(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shards(tmp_path, [3, 2])
    handler = functools.partial(SilentHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}"
        remote = stream(f"{address}/{{000..001}}.tar", seed=3, shuffle_buffer=4)
        local = stream(str(tmp_path), seed=3, shuffle_buffer=4)
        assert sorted((sample.captions, sample.image) for sample in remote) == sorted(
            (sample.captions, sample.image) for sample in local
        )
        assert len(remote) == 5
        with pytest.raises(DataError, match=r"no\.tar: the shard cannot be read"):
            stream(f"{address}/no.tar")
        server.shutdown()


class SilentHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *args: object) -> None:
        pass
