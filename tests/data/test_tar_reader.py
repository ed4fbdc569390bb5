"""Tar files as `tarfile` writes them, and hostile ones."""

import gzip
import logging
import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from cutline.data import Sample, open_data, stream_shards, tar, tar_reader
from cutline.data.sample import stamp_image
from cutline.errors import DataError

BLOCK = 512
REST = {"b.jpg": b"second", "b.txt": b"a cat"}


def stream(shard: Path) -> list[Sample]:
    """Stream a shard once, in order."""
    return list(
        stream_shards(str(shard), seed=0, epoch=0, reader=0, num_readers=1, shuffle_buffer=0)
    )


def make_member(
    name: str,
    data: bytes = b"",
    *,
    size: int | None = None,
    type: bytes = b"0",
    blocks: bytes = b"",
) -> bytes:
    """Return a member; `size` is what its header declares, and `blocks` stand before its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = type, len(data) if size is None else size
    header = info.tobuf(tarfile.GNU_FORMAT)
    return header + blocks + data + bytes(-len(data) % BLOCK)


def make_sparse(name: str, real_size: int, data: bytes) -> bytes:
    """Return a member in GNU's sparse format, which unpacks to `real_size` bytes."""
    header = bytearray(make_member(name, size=len(data), type=tarfile.GNUTYPE_SPARSE)[:BLOCK])
    header[386:410] = b"%011o\0%011o\0" % (0, len(data))
    header[482] = 1  # another block of the map follows
    header[483:495] = b"\x80" + real_size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(BLOCK) + data + bytes(-len(data) % BLOCK)


def pax(records: dict[str, str]) -> bytes:
    """Return a PAX header for the next member."""
    return tarfile.TarInfo._create_pax_generic_header(records, tarfile.XHDTYPE, "utf-8")


def write_shard(path: Path, *members: bytes) -> Path:
    rest = (make_member(name, data) for name, data in REST.items())
    content = b"".join([*members, *rest]) + bytes(2 * BLOCK)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_names_of_every_format_are_read(tmp_path: Path, format: int, suffix: str) -> None:
    names = ["a/b", "ảnh", "d/" * 40 + "x" * 90]
    if format != tarfile.USTAR_FORMAT:
        names += ["y" * 150, "thư mục/" * 30 + "z"]
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name in names:
            for extension, data in ((".jpg", name.encode()), (".txt", b"a dog")):
                info = tarfile.TarInfo(name + extension)
                info.size, info.mtime = len(data), 1.5 if format == tarfile.PAX_FORMAT else 0
                archive.addfile(info, BytesIO(data))
    shard = tmp_path / f"s.{suffix}"
    shard.write_bytes(gzip.compress(file.getvalue()) if suffix == "tar.gz" else file.getvalue())
    expected = [Sample(name.encode(), ("a dog",), f"{shard.name}/{name}") for name in names]
    assert stream(shard) == expected
    if suffix == "tar":
        assert [sample.image.read() for sample in open_data(shard)] == [
            name.encode() for name in names
        ]


HOSTILE = {
    "sparse of 50 GB": make_sparse("a.jpg", 50 * 10**9, b"x" * 600),
    "sparse of 2^87": make_sparse("a.jpg", 2**87, b"x"),
    "sparse caption": make_sparse("a.txt", 50 * 10**9, b"x"),
    "sparse in PAX": pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    + make_member("a.jpg", b"9" * BLOCK),
    "sparse in old PAX": pax({"GNU.sparse.size": "50000000000"}) + make_member("a.jpg", b"x"),
    "huge name": make_member("n", b"n" * 3000, type=tarfile.GNUTYPE_LONGNAME)
    + make_member("a.jpg", b"x"),
    "huge attributes": make_member("p", b"x" * 3000, type=tarfile.XHDTYPE)
    + make_member("a.jpg", b"x"),
    "large image": make_member("a.jpg", b"x" * 3000),
    "large caption": make_member("a.json", b" " * 3000),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_hostile_members_are_reported_and_skipped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: str,
    suffix: str,
) -> None:
    for module, limit in ((tar, "MAX_IMAGE_BYTES"), (tar, "MAX_CAPTION_BYTES")):
        monkeypatch.setattr(module, limit, 2000)
    monkeypatch.setattr(tar_reader, "MAX_HEADER_BYTES", 2000)
    shard = write_shard(tmp_path / f"s.{suffix}", HOSTILE[case])
    with caplog.at_level(logging.WARNING):
        samples = stream(shard) if suffix == "tar.gz" else open_data(shard)
    assert [sample.captions for sample in samples] == [("a cat",)]
    assert f"{shard}/a." in caplog.text
    assert "skipped, because it is sparse" in caplog.text or "3,000 bytes" in caplog.text


DAMAGED = {
    "50 GB": make_member("a.jpg", b"x", size=50 * 10**9),
    "2^87": make_member("a.jpg", b"x", size=2**87),
    "negative": make_member("a.jpg", b"x", size=-BLOCK),
    "negative, skipped": make_member("a.bin", b"x", size=-BLOCK),
    "PAX, negative": pax({"size": "-1024"}) + make_member("a.jpg", b"x"),
    "PAX, 5,000 digits": pax({"size": "9" * 5000}) + make_member("a.jpg", b"x"),
    "PAX, no number": pax({"size": "x"}) + make_member("a.jpg", b"x"),
    "sparse map without end": make_sparse("a.jpg", 1, b"")[:BLOCK],
    "digits only": make_member("p", b"1" * 500_000, type=tarfile.XHDTYPE),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_damaged_headers_are_errors(tmp_path: Path, case: str, suffix: str) -> None:
    shard = tmp_path / f"s.{suffix}"
    content = DAMAGED[case]
    shard.write_bytes(gzip.compress(content) if suffix == "tar.gz" else content)
    read = stream if suffix == "tar.gz" else open_data
    with pytest.raises(DataError, match=r"s\.tar\S*: .* \((a header is|it ends before|unexp)"):
        read(shard)


def test_thousands_of_headers_for_one_member_are_read(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", pax({"comment": "x"}) * 3000)
    assert len(open_data(shard)) == len(stream(shard)) == 1


def test_only_the_first_image_of_a_key_is_kept(tmp_path: Path) -> None:
    images = (make_member(f"b.{extension}", b"x") for extension in ("png", "webp", "gif"))
    shard = write_shard(tmp_path / "s.tar", *images)
    assert [sample.image for sample in stream(shard)] == [b"x"]
    assert [str(sample.image) for sample in open_data(shard)] == [f"{shard}/b.png"]


def test_large_images_make_the_shuffle_buffer_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cutline.data import shard_stream

    members = [make_member(f"{n}.{ext}", b"x" * 10) for n in range(50) for ext in ("jpg", "txt")]
    shard = write_shard(tmp_path / "s.tar", *members)

    def shuffle() -> list[str]:
        options = {"seed": 0, "epoch": 0, "reader": 0, "num_readers": 1, "shuffle_buffer": 100}
        return [sample.id for sample in stream_shards(str(shard), **options)]

    everything = shuffle()
    monkeypatch.setattr(shard_stream, "MAX_BUFFER_BYTES", 30)
    assert sorted(shuffle()) == sorted(everything)
    ordered = [sample.id for sample in stream(shard)]
    early = [ordered.index(id) - index for index, id in enumerate(shuffle())]
    assert max(early) <= 3  # no sample comes before those that do not fit into the buffer with it


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_stamps_have_the_time_of_the_member(tmp_path: Path, format: int) -> None:
    def stamp(time: float, size: int = 1) -> str:
        with tarfile.open(tmp_path / "s.tar", "w", format=format) as archive:
            info = tarfile.TarInfo("a.jpg")
            info.size, info.mtime = size, time
            archive.addfile(info, BytesIO(bytes(size)))
        (sample,) = open_data(tmp_path / "s.tar")
        return stamp_image(sample.image)

    assert stamp(10) == "1-10"
    assert stamp(10, 2) == "2-10"
    assert stamp(1_700_000_000.25).startswith("1-1700000000")
    assert (stamp(10.5) == "1-10.5") == (format == tarfile.PAX_FORMAT)
    assert stamp(0).startswith("1-10240-")  # size and time of the shard
    if format == tarfile.USTAR_FORMAT:
        os.utime(tmp_path / "s.tar", (5, 5))
        (sample,) = open_data(tmp_path / "s.tar")
        assert stamp_image(sample.image) == "1-10240-5000000000"


def test_damaged_times_are_ignored(tmp_path: Path) -> None:
    for value in ("", "x", "nan", "inf", "1e5", "9" * 500, "1_0", "٣"):
        shard = write_shard(tmp_path / "s.tar", pax({"mtime": value}) + make_member("a.jpg", b"x"))
        assert stamp_image(open_data(shard)[0].image) == f"1-{stamp_image(str(shard))}"
