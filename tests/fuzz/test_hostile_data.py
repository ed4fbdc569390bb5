"""Hostile datasets: damaged files of every format, and contents that no publisher writes."""

import gzip
import json
import logging
import os
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fuzz_process import Limits, check_cases
from tars import write_tar

from cutline.data import iter_data, open_data, stream_shards
from cutline.errors import CutlineError, DataError
from cutline.files import ImageRef

LIMITS = Limits(memory=300_000_000, seconds=30)
NUM_CASES = 200
Make = Callable[[random.Random, Path], Path]
JUNK = (
    *(b"\0", b"\n", b"\r", b'"', b"'", b"\\", b"{", b"[" * 5000, b"]", b",", b"\t", b"|", b"\xff"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\xbd", b"1" * 5000),
    *(b"\\ud800", b"null", b"-1", b"1e999", b"NaN", b"a" * 200_000, b"\n" * 50_000, b"../" * 100),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1.5, float("nan"), float("inf"), "", " ", "a.jpg", "\0", "\ud800"),
    *("x" * 100_000, [], ["a"], [[]], [None], {}, {"a": 1}, {"bytes": None}, "pipe:touch x", "../"),
)


# --------------------------------------------------------------------------------------- mutations


def damage(rng: random.Random, data: bytes) -> bytes:
    """Change, remove, repeat or insert a few bytes."""
    content = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5, 20))):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.choice((1, 8, 100, 2000)))
        match rng.randrange(5):
            case 0:
                content[start:end] = rng.randbytes(end - start)
            case 1:
                del content[start:end]
            case 2:
                content[start:start] = content[start:end] * rng.choice((1, 3, 50))
            case 3:
                content[start:start] = rng.choice(JUNK)
            case 4 if start:
                content[start - 1] ^= 1 << rng.randrange(8)
    return bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content)


def spoil(rng: random.Random, value: Any) -> Any:
    """Replace some of the values in a JSON value by ones of other types."""
    if rng.random() < 0.08:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        return {key: spoil(rng, item) for key, item in value.items() if rng.random() > 0.03}
    if isinstance(value, list):
        return [spoil(rng, item) for item in value for _ in range(rng.choice((1, 1, 1, 2)))]
    return value


def mutate(rng: random.Random, path: Path, data: bytes) -> Path:
    """Write a file, damaged in half of the cases."""
    path.write_bytes(damage(rng, data) if rng.random() < 0.5 else data)
    return path


def dump(rng: random.Random, value: Any) -> bytes:
    """Return JSON with spoiled values, in one of several encodings."""
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"))
    return json.dumps(spoil(rng, value)).encode(encoding)


# ----------------------------------------------------------------------------------------- formats


def make_jsonl(rng: random.Random, folder: Path) -> Path:
    row = {"file_name": "a.jpg", "captions": ["a dog", "a cat"], "id": 3, "prompt": "a "}
    rows = [json.dumps(spoil(rng, row | {"file_name": f"{n}.jpg"})) for n in range(20)]
    end = rng.choice(("\n", "\r\n", "\r", "\u2028", "\n" * 100_000))
    return mutate(rng, folder / "a.jsonl", end.join(rows).encode())


def make_table(rng: random.Random, folder: Path) -> Path:
    delimiter = rng.choice(",\t;|")
    header = rng.sample(("file_name", "caption", "id", "prompt", "", "caption"), 4)
    cells = ("a.jpg", "a dog", '"a, b"', '["a", "b"]', "['a']", '"', "", "[" * 500, "1", "\0")
    rows = [header, *([rng.choice(cells) for _ in header] for _ in range(20))]
    text = rng.choice(("\n", "\r\n", "\r")).join(map(delimiter.join, rows))
    return mutate(rng, folder / rng.choice(("a.csv", "a.tsv")), text.encode())


def make_flickr(rng: random.Random, folder: Path) -> Path:
    text = "".join(f"{n}.jpg#{n % 5}\ta dog\n" for n in range(30))
    return mutate(rng, folder / "a.token", text.encode())


def make_coco(rng: random.Random, folder: Path) -> Path:
    images = [{"id": n, "file_name": f"{n}.jpg", "domain": "near"} for n in range(5)]
    annotations = [{"image_id": n, "caption": "a dog"} for n in range(5)]
    return mutate(rng, folder / "a.json", dump(rng, {"images": images, "annotations": annotations}))


def make_karpathy(rng: random.Random, folder: Path) -> Path:
    image = {
        **{"filename": "a.jpg", "filepath": "val", "split": "val", "cocoid": 1},
        "sentences": [{"raw": "a dog"}, {"raw": "a cat"}],
    }
    return mutate(rng, folder / "a.json", dump(rng, {"images": [image] * 5}))


def make_rows(rng: random.Random, folder: Path) -> Path:
    rows = [{"image": f"{n}.jpg", "caption": "a dog", "image_id": n} for n in range(9)]
    return mutate(rng, folder / "a.json", dump(rng, rows))


def make_tar(rng: random.Random, folder: Path) -> Path:
    members: dict[str, bytes | str] = {}
    for n in range(5):
        members |= {f"{n}.jpg": b"x" * 700, f"{n}.txt": "a dog"}
        members |= {f"{n}.json": json.dumps(spoil(rng, {"caption": "a", "captions": ["b"]}))}
    path = Path(write_tar(folder / "a.tar", members))
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((0, 1, 3))):
        spoil_header(rng, data, BLOCK * rng.randrange(len(data) // BLOCK))
    if rng.random() < 0.3:
        path = path.with_suffix(".tar.gz")
        return mutate(rng, path, gzip.compress(bytes(data), mtime=0))
    return mutate(rng, path, bytes(data))


BLOCK = 512
SIZES = (b"77777777777\0", b"\xff" * 12, b"\x80\0" + b"\xff" * 10, b"-0000000001\0", b"\x80" * 12)


def spoil_header(rng: random.Random, data: bytearray, start: int) -> None:
    """Give a header another type, size or name, and the right checksum."""
    header = data[start : start + BLOCK]
    if rng.random() < 0.7:
        header[156:157] = rng.choice((b"S", b"L", b"K", b"x", b"g", b"X", b"1", b"5", b"6", b"?"))
    if rng.random() < 0.5:
        header[124:136] = rng.choice(SIZES)
    if rng.random() < 0.2:
        header[482] = 1  # sparse: another block of the map follows
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[start : start + BLOCK] = header


def make_pax_tar(rng: random.Random, folder: Path) -> Path:
    keys = ("size", "path", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset")
    values = ("-1", "0", "9" * 30, "9" * 5000, "a.jpg", "1", "1,2,3", "x", "é", "a" * 5000)
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for n in range(6):
            info = tarfile.TarInfo(f"{n // 2}.{('jpg', 'txt')[n % 2]}")
            info.size = 100
            info.pax_headers = {rng.choice(keys): rng.choice(values) for _ in range(2)}
            tar.addfile(info, BytesIO(b"x" * 100))
    return mutate(rng, folder / "a.tar", file.getvalue())


def make_folder(rng: random.Random, folder: Path) -> Path:
    for n in range(5):
        (folder / f"{n}.jpg").write_bytes(b"x")
        mutate(rng, folder / f"{n}.{rng.choice(('txt', 'caption', 'jpg.txt'))}", b"a dog\na cat\n")
    hidden = os.fsencode(folder) + rng.choice((b"/\xff.jpg", b"/a\nb.jpg", b"/" + b"a" * 250))
    Path(os.fsdecode(hidden)).write_bytes(b"x")
    for name in rng.sample(("l.jpg", "l", "m", "p.jpg", "metadata.jsonl", "n.txt"), 3):
        kind = rng.randrange(4)
        with suppress(OSError):
            if kind == 0:
                (folder / name).symlink_to(rng.choice((".", "..", name, "/dev/zero", "no")))
            elif kind == 1:
                os.mkfifo(folder / name)
            else:
                (folder / name).mkdir()
    return folder


def make_parquet(rng: random.Random, folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    embedded = pa.array([{"bytes": b"x" * 100, "path": f"{n}.jpg"} for n in range(8)])
    images = (embedded, pa.array([f"{n}.jpg" for n in range(8)]), pa.array([b"x"] * 8))
    captions = (
        pa.array([["a dog", "a cat"], None] * 4),
        pa.array([b"a\xff"] * 8),
        pa.array([b"a\xff"] * 8).view(pa.string()),
        pa.array([1.5] * 8),
        pa.array([{"a": [{"b": 1}]}] * 8),
        pa.array([[[["a"]]]] * 8),
        pa.array([b"c" * 10**6] * 8),
        pa.array([2**62] * 8, pa.timestamp("us")),
        pa.array(["a"] * 8).dictionary_encode(),
        pa.nulls(8),
    )
    table = pa.table({"image": rng.choice(images), "caption": rng.choice(captions)})
    file = BytesIO()
    compression = rng.choice(("none", "snappy", "zstd"))
    pq.write_table(table, file, row_group_size=rng.choice((1, 3, 8)), compression=compression)
    return mutate(rng, folder / "a.parquet", file.getvalue())


MAKERS: tuple[Make, ...] = (
    *(make_jsonl, make_table, make_flickr, make_coco, make_karpathy, make_rows),
    *(make_tar, make_pax_tar, make_folder),
    *([make_parquet] if find_spec("pyarrow") else []),
)


# --------------------------------------------------------------------------------------------- run


def run_case(seed: int, folder: Path) -> None:
    logging.disable()
    rng = random.Random(seed)
    path = MAKERS[seed % len(MAKERS)](rng, folder)
    first_error = None
    readers = [open_data, read_all, *([stream] if ".tar" in path.name else [])]
    for read in readers:
        try:
            for sample in islice(read(path), 100):
                if isinstance(sample.image, ImageRef):
                    sample.image.read()
        except CutlineError as error:
            first_error = error
    if first_error:
        raise first_error


def read_all(path: Path) -> Any:
    """Yield the samples among errors, each of which is a sentence that names the data."""
    for item in iter_data(path):
        if isinstance(item, DataError):
            assert str(item).startswith(str(path)), item
            assert len(str(item)) < 1000, item
        else:
            yield item


def stream(path: Path) -> Any:
    return stream_shards(str(path), seed=0, epoch=0, reader=0, num_readers=1, shuffle_buffer=3)


def test_hostile_data_end_in_a_sentence():
    outcomes = check_cases(__file__, range(len(MAKERS) * 4), LIMITS)
    assert any(outcome.message for outcome in outcomes)
    assert any(not outcome.message for outcome in outcomes)


@pytest.mark.slow
def test_all_hostile_data_end_in_a_sentence():
    check_cases(__file__, range(NUM_CASES), LIMITS)
