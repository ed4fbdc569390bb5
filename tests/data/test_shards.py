"""Tar shards: read whole, and streamed by several readers."""

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

from cutline.data import Sample, is_shards, list_shards, open_data, stream_shards
from cutline.errors import DataError, ImageError
from cutline.image import open_image


def picture(grey: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 3), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


def write_shards(folder: Path, sizes: list[int]) -> str:
    """Shards of so many samples, whose captions number them."""
    number = 0
    for shard, size in enumerate(sizes):
        members: dict[str, bytes | str] = {}
        for _ in range(size):
            members |= {
                f"{number:04d}.png": picture(number % 256),
                f"{number:04d}.txt": f"number {number}",
            }
            number += 1
        write_tar(folder / f"{shard:03d}.tar", members)
    return str(folder)


def stream(
    urls: str, seed: int = 0, epoch: int = 0, part: int = 0, parts: int = 1, shuffle: int = 0
) -> list[Sample]:
    return list(
        stream_shards(urls, seed=seed, epoch=epoch, part=part, parts=parts, shuffle=shuffle)
    )


# -------------------------------------------------------------------------------------------------------- reading whole


def test_pictures_are_found_and_not_read(tmp_path: Path) -> None:
    members = {
        "000.png": picture(1),
        "000.txt": " a dog\n\na cat \n",
        "000.json": '{"caption": "no"}',
        "sub/001.png": picture(2),
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
    for sample, grey in ((first, 1), (second, 2)):
        assert sample.image.read() == picture(grey)  # type: ignore[union-attr]
        assert open_image(pickle.loads(pickle.dumps(sample.image))).getpixel((0, 0)) == (
            grey,
            grey,
            grey,
        )


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
    ],
)
def test_where_captions_are(
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
    """As in webdataset, so that a mask or an embedding between image and caption does not part them."""
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


def test_an_archived_folder_is_that_folder(tmp_path: Path) -> None:
    """`tar cf` keeps no pairs together, and puts ./ before names."""
    folder = tmp_path / "photos"
    (folder / "s").mkdir(parents=True)
    for name in ("a", "b", "s/c"):
        (folder / f"{name}.png").write_bytes(picture(len(name)))
        (folder / f"{name}.txt").write_text(f"image {name}\nand so on\n")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for suffix in (".png", ".txt"):
            for name in ("a", "b", "s/c"):
                tar.add(folder / (name + suffix), f"./{name}{suffix}")
    archived = {sample.id: sample for sample in open_data(tmp_path / "photos.tar")}
    for sample in open_data(folder):
        twin = archived[f"photos.tar/{sample.id.removesuffix('.png')}"]
        assert twin.captions == sample.captions
        assert open_image(twin.image).tobytes() == open_image(sample.image).tobytes()


def test_all_the_ways_to_name_shards(tmp_path: Path) -> None:
    write_shards(tmp_path / "s", [1] * 11)
    every = [str(tmp_path / f"s/{n:03d}.tar") for n in range(11)]
    assert list_shards(f"{tmp_path}/s") == list_shards(f"{tmp_path}/s/*.tar") == every
    assert list_shards(f"{tmp_path}/s/00?.tar::{tmp_path}/s/010.tar::{tmp_path}/s") == every
    pytest.importorskip("braceexpand")
    assert list_shards(f"{tmp_path}/s/{{000..010}}.tar") == every
    assert list_shards("https://host/{0..1}.tar::pipe:cat {a,b}") == [
        "https://host/0.tar",
        "https://host/1.tar",
        "pipe:cat a",
        "pipe:cat b",
    ]
    assert len(open_data(f"{tmp_path}/s/{{000..003}}.tar")) == 4
    assert len(open_data(tmp_path / "s")) == len(open_data(tmp_path, split="s")) == 11


def test_what_shards_are(tmp_path: Path) -> None:
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
    (tmp_path / "s/loose.jpg").touch()  # then the shards may be what the images came in
    assert not is_shards(tmp_path / "s")
    assert [sample.id for sample in open_data(tmp_path / "s")] == ["loose.jpg"]
    (tmp_path / "s/loose.jpg").rename(tmp_path / "a.jpg")
    (tmp_path / "s/metadata.jsonl").write_text('{"file_name": "a.jpg"}')
    assert not is_shards(tmp_path / "s")


def test_img2dataset_s_shards(tmp_path: Path) -> None:
    details = json.dumps(
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
        {"000000000.jpg": b"x", "000000000.txt": "a dog", "000000000.json": details},
    )
    (tmp_path / "00000.parquet").touch()
    (tmp_path / "00000_stats.json").write_text("{}")
    assert [(sample.id, sample.captions) for sample in open_data(tmp_path)] == [
        ("00000.tar/000000000", ("a dog",))
    ]


def test_shards_that_are_not_there(tmp_path: Path) -> None:
    for path in ("no.tar", "*.tar", "{000..001}.tar"):
        for read in (open_data, list_shards, stream):
            with pytest.raises(
                DataError,
                match=r"tar: no shards there; give \.tar files, a folder of them, or a pattern",
            ):
                read(f"{tmp_path}/{path}")
    with pytest.raises(
        DataError, match=r"https://host/a\.tar: only a training run reads such shards"
    ):
        open_data("https://host/a.tar")
    with pytest.raises(DataError, match="has no splits to take `val` from"):
        open_data(write_tar(tmp_path / "a.tar", {}), split="val")


# -------------------------------------------------------------------------------------------------------- broken shards


def spoil(data: bytes, how: str) -> bytes:
    match how:
        case "header":
            return data[: 2 * 512 + 100] + b"\xff" * 100 + data[2 * 512 + 200 :]
        case "truncated":
            return data[: 4 * 512 + 10]
        case "empty":
            return b""
    return b"no tar " * 1000


@pytest.mark.parametrize("how", ["header", "truncated", "empty", "other"])
def test_a_broken_shard_is_named(tmp_path: Path, how: str) -> None:
    shard = Path(
        write_tar(
            tmp_path / "a.tar",
            {"a.jpg": b"x", "a.txt": "a dog", "b.jpg": b"x" * 2000, "b.txt": "a cat"},
        )
    )
    shard.write_bytes(spoil(shard.read_bytes(), how))
    with pytest.raises(
        DataError,
        match=r"a\.tar: not a tar that can be read \(.*\); unpack it if it is compressed, else copy it again",
    ):
        open_data(shard)
    with pytest.raises(
        DataError,
        match=r"a\.tar: the shard cannot be read \(.*\); check that it is there, copy it again, or leave it out",
    ):
        stream(str(shard))


def test_a_compressed_shard_can_only_be_streamed(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar.gz", {"a.jpg": b"x", "a.txt": "a dog"}, "w:gz")
    assert [sample.captions for sample in stream(shard)] == [("a dog",)]
    with pytest.raises(DataError, match="unpack it if it is compressed"):
        open_data(shard)


def test_broken_captions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard = write_tar(
        tmp_path / "a.tar",
        {
            "a.jpg": b"x",
            "a.json": "{",
            "b.jpg": b"x",
            "b.txt": "fine",
            "c.jpg": b"x",
            "c.txt": b"caf\xe9",
        },
    )
    with pytest.raises(DataError, match=r"a\.tar/a\.json: not JSON"):
        open_data(shard)
    assert [sample.id for sample in stream(shard)] == [
        "a.tar/b"
    ]  # one of a million does not stop a run
    assert "a.tar/a.json: not JSON" in caplog.text
    assert "a.tar/c.txt, line 1: not UTF-8 text" in caplog.text


def test_a_picture_whose_shard_is_gone(tmp_path: Path) -> None:
    shard = Path(write_tar(tmp_path / "a.tar", {"a.jpg": b"x" * 100}))
    (sample,) = open_data(shard)
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(ImageError) as caught:
        open_image(sample.image)
    assert (
        str(caught.value) == f"{shard}/a.jpg: the shard ends before the image does; copy it again"
    )
    shard.unlink()
    with pytest.raises(
        ImageError, match=r"a\.tar/a\.jpg: the shard cannot be opened \(No such file or directory\)"
    ):
        open_image(sample.image)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (sample,) = open_data(write_tar(tmp_path / "a.tar", {"a.jpg": b"no image"}))
    with pytest.raises(ImageError, match=r"a\.tar/a\.jpg: not an image that can be read"):
        open_image(sample.image)


# ----------------------------------------------------------------------------------------------------------- streaming


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    parts=st.integers(1, 7),
    shuffle=st.integers(0, 6),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_the_parts_read_everything_once(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    parts: int,
    shuffle: int,
    seed: int,
    epoch: int,
) -> None:
    urls = write_shards(tmp_path_factory.mktemp("s"), sizes)
    read = [stream(urls, seed, epoch, part, parts, shuffle) for part in range(parts)]
    numbers = Counter(sample.captions[0] for part in read for sample in part)
    assert numbers == Counter(f"number {n}" for n in range(sum(sizes)))
    assert read == [stream(urls, seed, epoch, part, parts, shuffle) for part in range(parts)]
    if parts <= len(sizes):  # whole shards
        shards = [{sample.id.partition("/")[0] for sample in part} for part in read]
        assert sum(map(len, shards)) == len(set().union(*shards))
    else:  # the same number for all
        assert max(map(len, read)) - min(map(len, read)) <= 1


def test_streamed_pictures_are_those_read_whole(tmp_path: Path) -> None:
    urls = write_shards(tmp_path, [3, 2])
    streamed = {sample.id: sample for sample in stream(urls, shuffle=3)}
    whole = open_data(urls)
    assert len(streamed) == len(whole)
    for sample in whole:
        assert streamed[sample.id].captions == sample.captions
        assert streamed[sample.id].image == sample.image.read()  # type: ignore[union-attr]


def test_orders(tmp_path: Path) -> None:
    urls = write_shards(tmp_path, [4] * 6)

    def order(**options: int) -> list[str]:
        return [sample.id for sample in stream(urls, **options)]

    as_they_lie = order()
    assert order(shuffle=1) == as_they_lie
    assert [as_they_lie[n : n + 4] == sorted(as_they_lie[n : n + 4]) for n in range(0, 24, 4)] == [
        True
    ] * 6
    assert (
        len(
            {
                tuple(order(**options))
                for options in (
                    {},
                    {"epoch": 1},
                    {"epoch": 2},
                    {"seed": 1},
                    {"shuffle": 8},
                    {"shuffle": 99},
                )
            }
        )
        == 6
    )
    fresh = [{sample.id for sample in stream(urls, epoch=epoch, parts=3)} for epoch in range(4)]
    assert any(one != fresh[0] for one in fresh)  # a part sees other shards in other epochs
    far = [abs(order(shuffle=8).index(id) - place) for place, id in enumerate(as_they_lie)]
    assert max(far) > 1


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
        f"{shard}: 1 samples, and 3 passed over that lack image or caption",
        f"{tmp_path / 's'}: 2 samples",
    ]


def test_a_stream_may_be_left(tmp_path: Path) -> None:
    urls = write_shards(tmp_path, [3])
    reading = stream_shards(urls, seed=0, epoch=0, part=0, parts=1, shuffle=0)
    next(reading)
    reading.close()


def test_commands(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    urls = write_shards(tmp_path, [3, 2])
    piped = stream(f"pipe:cat {tmp_path}/{{000..001}}.tar")
    assert sorted(sample.captions for sample in piped) == sorted(
        sample.captions for sample in stream(urls)
    )
    assert (
        len(stream(f"pipe:cat {tmp_path}/000.tar && head -c 300000 /dev/zero")) == 3
    )  # padding does not end it early
    reading = stream_shards(
        f"pipe:cat {tmp_path}/000.tar; sleep 0.1", seed=0, epoch=0, part=0, parts=1, shuffle=0
    )
    next(reading)
    reading.close()
    for command in (
        "pipe:false",
        f"pipe:cat {tmp_path}/no.tar",
        f"pipe:cat {tmp_path}/000.tar; exit 3",
        "odd://a.tar",
    ):
        with pytest.raises(DataError) as caught:
            stream(command)
        assert str(caught.value).startswith(f"{command}: the shard cannot be read (")
        assert len(str(caught.value)) < 250


@pytest.mark.skipif(
    shutil.which("curl") is None,
    reason="webdataset reads URLs through curl, which is not installed",
)
def test_shards_come_over_http(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shards(tmp_path, [3, 2])
    handler = functools.partial(SilentHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}"
        there, here = (
            stream(f"{address}/{{000..001}}.tar", seed=3, shuffle=4),
            stream(str(tmp_path), seed=3, shuffle=4),
        )
        assert sorted((sample.captions, sample.image) for sample in there) == sorted(
            (s.captions, s.image) for s in here
        )
        assert len(there) == 5
        with pytest.raises(DataError, match=r"no\.tar: the shard cannot be read"):
            stream(f"{address}/no.tar")
        server.shutdown()


class SilentHandler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, *args: object) -> None:
        pass
