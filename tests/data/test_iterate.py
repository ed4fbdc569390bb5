"""Datasets are read one sample after the other, and reading goes on after what is damaged."""

import itertools
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tars import write_tar

from cutline.config import Columns, DataSource
from cutline.data import Sample, count_data, iter_data, iter_list, open_data
from cutline.data.text import iter_lines
from cutline.errors import DataError


def read(path: Path | str, **options: Any) -> list[Sample]:
    """Return the samples of data without errors."""
    samples = list(iter_data(path, **options))
    assert all(isinstance(sample, Sample) for sample in samples), samples
    return samples


def read_all(path: Path | str, **options: Any) -> tuple[list[str], list[str]]:
    """Return the ids of the samples, and the errors among them without the name of the data."""
    items = list(iter_data(path, **options))
    ids = [item.id for item in items if isinstance(item, Sample)]
    errors = [str(item) for item in items if isinstance(item, DataError)]
    assert all(error.startswith(str(path)) for error in errors)
    return ids, [error.removeprefix(str(path)) for error in errors]


def read_error(path: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(iter_data(path, **options))
    return str(caught.value)


def write(path: Path, content: str | bytes | list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        table = pytest.importorskip("pyarrow").Table.from_pylist(content)
        pq.write_table(table, path, row_group_size=2 if len(content) < 100 else None)
        return path
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ------------------------------------------------------------------- the same as reading it at once

ROWS = [
    {"file_name": "10.jpg", "captions": ["a dog", "a cat"], "id": 7, "prompt": "a photo of "},
    {"file_name": "./sub/9.jpg", "captions": "một con chó\u2028", "domain": "near", "scene": 3},
    {"file_name": "/far/a b.jpg", "url": "https://x/a", "key": "k", "scene": "x"},
    *({"file_name": "c.jpg", "text": f"caption {n}", "scene": "y"} for n in range(3)),
    {"file_name": "https://x/b.jpg"},
]
COCO = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "domain": "near"} for n in range(3)],
    "annotations": [{"image_id": n % 2, "caption": f"caption {n}"} for n in range(5)],
}
KARPATHY = {
    "images": [
        {"filename": f"{n}.jpg", "split": split, "cocoid": n, "sentences": [{"raw": "a"}]}
        for n, split in enumerate(("train", "val", "restval"))
    ]
}


def make_folder(folder: Path) -> Path:
    for name in ("10.jpg", "9.png", "s/B.jpg", "s/a.jpg", "S/2.jpg", "s/1.jpg", ".h/x.jpg", "e/n"):
        write(folder / name, "")
    write(folder / "9.txt", "a dog\n\na cat")
    write(folder / "s/1.jpg.caption", "one")
    return folder


def make_shards(folder: Path) -> Path:
    for number in range(11):
        members = {
            f"{number}.jpg": b"x",
            f"{number}.json": json.dumps({"caption": "a", "url": f"https://x/{number}"}),
            f"s/{number}.png": b"y",
            f"{number}.txt": "apart from its image",
        }
        write_tar(folder / f"{number}.tar", members)
    return folder


def make_parquet(folder: Path) -> Path:
    rows = [row for row in ROWS if "captions" not in row]
    write(folder / "2.parquet", rows[:3])
    write(folder / "s/10.parquet", rows[3:])
    return folder


def make_images(folder: Path) -> Path:
    rows = [
        {"jpg": b"x" * n, "caption": "x", "key": f"k{n}", "url": "u", "status": status}
        for n, status in enumerate(("success", "failed", "success"))
    ]
    return write(folder / "a.parquet", rows)


CSV = (
    'id;image;caption\r\n1;a.jpg;"two\r\nlines"\r\n;a.jpg;"[""a dog"", ""b""]"\r\n\r\n3;b.jpg;\r\n'
)
MAKERS: dict[str, Callable[[Path], Path]] = {
    "jsonl": lambda folder: write(folder / "a.jsonl", ROWS),
    "jsonl in json": lambda folder: write(folder / "a.json", ROWS),
    "csv": lambda folder: write(folder / "a.csv", CSV),
    "csv in utf-16": lambda folder: write(folder / "a.csv", CSV.encode("utf-16")),
    "csv with byte-order mark": lambda folder: write(folder / "a.csv", CSV.encode("utf-8-sig")),
    "csv of old Macs": lambda folder: write(folder / "a.csv", "image,text\ra.jpg,a\rb.jpg,b\r"),
    "tsv": lambda folder: write(folder / "a.tsv", CSV.replace(";", "\t")),
    "tsv without quotes": lambda folder: write(folder / "a.tsv", 'image\ttext\na\t"b" c\nb\t"\n'),
    "bars": lambda folder: write(folder / "a.csv", "image_name| n| comment\na.jpg| 0| a | b\n"),
    "flickr": lambda folder: write(folder / "a.token", "a.jpg#0\tone\na.jpg#1\ttwo\nb.jpg#0\t\n"),
    "coco": lambda folder: write(folder / "a.json", json.dumps(COCO)),
    "karpathy": lambda folder: write(folder / "a.json", json.dumps(KARPATHY)),
    "blip": lambda folder: write(folder / "a.json", json.dumps(ROWS)),
    "folder": make_folder,
    "shards": make_shards,
    "shard": lambda folder: make_shards(folder) / "3.tar",
    "parquet": make_parquet,
    "parquet files": lambda folder: make_parquet(folder) / "*.parquet",
    "embedded images": make_images,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_samples_are_those_of_the_whole_data(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path)
    samples = read(path, allow_urls=True)
    assert samples == open_data(path)
    assert samples
    count = count_data(path)
    exact = kind not in {"coco", "karpathy", "blip", "shards", "shard"}
    assert (count is not None and count >= len(samples)) if exact else count is None


@pytest.mark.parametrize("kind", ["coco", "karpathy", "folder", "csv", "shards", "parquet"])
def test_data_may_be_described(tmp_path: Path, kind: str) -> None:
    path = str(MAKERS[kind](tmp_path / "train"))
    sources = {
        "karpathy": DataSource(path, "photos", split="train"),
        "csv": DataSource(path, "photos", columns=Columns("image", id_column="id")),
        "coco": DataSource(path, "photos"),
    }
    source = sources.get(kind, DataSource(str(tmp_path), split="train"))
    samples = read(source, allow_urls=True)
    assert samples == open_data(source)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_ids_may_be_in_a_column_of_any_name(tmp_path: Path, name: str) -> None:
    rows = [{"image": f"{n}.jpg", "sku": n * 7, "id": "other"} for n in range(3)]
    text = "image,sku,id\n" + "".join(f"{row['image']},{row['sku']},other\n" for row in rows)
    path = write(tmp_path / name, text if name == "a.csv" else rows)
    source = DataSource(str(path), columns=Columns(id_column="sku"))
    assert [sample.id for sample in read(source)] == ["0", "7", "14"]
    source = DataSource(str(path), columns=Columns(id_column="no"))
    assert "has no column `no`; name one of image, sku, id" in read_error(source)


def test_adjacent_rows_of_an_image_are_merged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "image,caption\na,1\n./a,2\nb,3\na,4\n")
    assert [(sample.id, sample.captions) for sample in read(path)] == [
        ("a", ("1", "2")),
        ("b", ("3",)),
        ("a", ("4",)),
    ]


def test_compressed_shards_are_read(tmp_path: Path) -> None:
    members = {"a.jpg": b"x", "a.json": '{"caption": "a dog", "url": "https://x"}', "b.jpg": b"y"}
    path = write_tar(tmp_path / "a.tar.gz", members, "w:gz")
    assert read(path) == [
        Sample(b"x", ("a dog",), "a.tar.gz/a", url="https://x"),
        Sample(b"y", (), "a.tar.gz/b"),
    ]
    Path(path).rename(tmp_path / "b.tar")
    assert [sample.image for sample in read(tmp_path)] == [b"x", b"y"]


# ------------------------------------------------------------------- going on after what is damaged


def test_bad_lines_of_json_are_errors_among_the_samples(tmp_path: Path) -> None:
    lines = [b'{"image": "a"}', b'{"image": "b"', b"", b'{"image": "c"}', b'{"text": "d"}']
    lines += [b'{"image": "\xff"}', b"[1]", b'{"image": "e", "text": 1}', b'{"image": "f"}']
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    ids, errors = read_all(path)
    assert ids == ["a", "c", "f"]
    assert errors == [
        ", line 2: not JSON (Expecting ',' delimiter at column 14); correct or remove it",
        ", line 5: the row names no image; give its path as `file_name`",
        ", line 6: not UTF-8 text; save the file as UTF-8",
        ', line 7: a row must be a JSON object such as {"file_name": "a.jpg", "captions": '
        '["a dog"]}',
        ", line 8: the caption 1 is not text; put it in quotes",
    ]
    with pytest.raises(DataError, match="line 2: not JSON"):
        open_data(path)


def test_too_long_lines_are_errors_among_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutline.data.text.MAX_LINE_BYTES", 100)
    rows = [{"image": "a"}, {"image": "b" * 1000}, {"image": "c" * 80}, {"image": "d"}]
    ids, errors = read_all(write(tmp_path / "a.jsonl", rows))
    assert [id[0] for id in ids] == ["a", "c", "d"]
    assert len(errors) == 1
    assert errors[0].startswith(", line 2: longer than")


@pytest.mark.parametrize(
    ("row", "errors"),
    [
        (b"b", [", line 3: 1 cells for 2 columns"]),
        (b"b,1,2", [", line 3: 3 cells for 2 columns"]),
        (b",1", [", line 3: the row names no image"]),
        (b'b,"1" x', [", line 3: the row cannot be read (',' expected after '\"')"]),
        (b'b,"1', [", line 3: the row cannot be read (unexpected end of data); correct its"]),
        (b'b,"' + b"x" * 200_000, [", line 3: the row cannot be read (field larger than"]),
        (b"b,\xff", [", line 3: not UTF-8 text"]),
        (b'b,"1\nd,\xff', [", line 4: not UTF-8 text", ", line 3: the row cannot be read (unex"]),
        (b'b,"1\n2"x\nd,4', [", line 3: the row cannot be read", ", line 4: 1 cells for 2"]),
    ],
)
def test_bad_rows_of_tables_are_errors_among_the_samples(
    tmp_path: Path, row: bytes, errors: list[str]
) -> None:
    path = write(tmp_path / "a.csv", b"image,caption\na,1\n" + row + b"\nc,3\n")
    ids, actual = read_all(path)
    assert ids == (["a", "d", "c"] if row.endswith(b"d,4") else ["a", "c"])
    assert len(actual) == len(errors)
    for message, start in zip(actual, errors, strict=True):
        assert message.startswith(start)
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value) == f"{path}{actual[0]}"


@pytest.mark.parametrize("seed", range(10))
def test_rows_survive_other_rows_with_bad_quotes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = [f"{n}.jpg,text" for n in range(50)]
    bad = rng.sample(range(50), 7)
    for index in bad:
        rows[index] = rng.choice(['x,"no end', 'x,"a" b', 'x,"a""b'])
    ids, errors = read_all(write(tmp_path / "a.csv", "\n".join(["image,caption", *rows, ""])))
    assert ids == [f"{n}.jpg" for n in range(50) if n not in bad]
    lines = [int(error.removeprefix(", line ").partition(":")[0]) for error in errors]
    assert lines == [index + 2 for index in sorted(bad)]


def test_bad_lines_of_other_tables_are_errors_among_the_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.token", b"a.jpg#0\tx\nodd\n\xff.jpg#0\tx\nb.jpg#0\ty\n")
    assert read_all(path) == (
        ["a.jpg", "b.jpg"],
        [
            ", line 2: not of the form `name.jpg#0<TAB>caption`; correct or remove it",
            ", line 3: not UTF-8 text; save the file as UTF-8",
        ],
    )
    path = write(tmp_path / "a.csv", b"image| n| text\na| 0\nb| 0| x\n\xff\nc| 1| y\n")
    ids, errors = read_all(path)
    assert (ids, len(errors)) == (["b", "c"], 2)
    path = write(tmp_path / "a.tsv", b'image\ttext\na\t"x"\n\xff\nb\t"y"\nc\n')
    ids, errors = read_all(path)
    assert (ids, len(errors)) == (["a", "b"], 2)


def test_bad_entries_of_json_are_errors_among_the_samples(tmp_path: Path) -> None:
    coco = {
        "images": [{"id": 1, "file_name": "a"}, {"id": 2}, {"id": 1, "file_name": "b"}, 3],
        "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 1}, {"caption": "x"}],
    }
    ids, errors = read_all(write(tmp_path / "a.json", json.dumps(coco)))
    assert ids == ["1"]
    assert [error[: error.index(":")] for error in errors] == [
        *(", annotation 2", ", annotation 3"),
        *(", image 2", ", image 3", ", image 4"),
    ]
    images = [*KARPATHY["images"], {"filename": "d"}, {"split": "val", "sentences": 1}]
    path = write(tmp_path / "b.json", json.dumps({"images": images}))
    ids, errors = read_all(path)
    assert (ids, len(errors)) == (["0", "1", "2"], 2)
    assert "has no split `no`" in read_error(DataSource(str(path), split="no"))
    ids, errors = read_all(write(tmp_path / "c.json", '[{"image": "a"}, 1, {"image": "b"}]'))
    assert (ids, len(errors)) == (["a", "b"], 1)


def test_a_sidecar_that_cannot_be_read_is_an_error_before_its_image(tmp_path: Path) -> None:
    write(make_folder(tmp_path) / "10.txt", b"caf\xe9")
    ids, errors = read_all(tmp_path)
    assert [id for id in ids if not id.startswith("10.")] == [
        "9.png",
        "s/1.jpg",
        "S/2.jpg",
        "s/a.jpg",
        "s/B.jpg",
    ]
    assert len(ids) == 6
    assert errors == ["/10.txt, line 1: not UTF-8 text; save the file as UTF-8"]


def test_damaged_shards_are_errors_among_the_samples(tmp_path: Path) -> None:
    make_shards(tmp_path)
    shard = tmp_path / "3.tar"
    shard.write_bytes(shard.read_bytes()[: 512 * 5])  # in the middle of the second key
    (tmp_path / "7.tar").write_bytes(b"no tar file" * 100)
    write_tar(tmp_path / "8.tar", {"a.jpg": b"x", "a.json": "{", "b.jpg": b"y"})
    ids, errors = read_all(tmp_path)
    whole = [n for n in range(11) if n not in (3, 7, 8)]
    expected = [id for n in whole for id in (f"{n}.tar/{n}", f"{n}.tar/s/{n}")]
    # The second image of the third shard is there in part, which reading it reports.
    assert sorted(ids) == sorted([*expected, "3.tar/3", "3.tar/s/3", "8.tar/b"])
    assert [error[: error.index(":")] for error in errors] == ["/3.tar", "/7.tar", "/8.tar/a.json"]
    assert "not a tar file" in read_error(tmp_path / "7.tar")


def test_damaged_compressed_shards_are_read_up_to_the_damage(tmp_path: Path) -> None:
    rng = random.Random(0)
    members = {f"{n}.jpg": rng.randbytes(10_000) for n in range(20)}
    path = Path(write_tar(tmp_path / "a.tgz", members, "w:gz"))
    path.write_bytes(path.read_bytes()[:100_000])
    ids, errors = read_all(path)
    assert 5 < len(ids) < 10
    assert len(errors) == 1
    assert errors[0].startswith(": the shard cannot be read (")
    path.write_bytes(path.read_bytes()[:100])
    assert read_error(path).startswith(f"{path}: the shard cannot be read (")


def test_damaged_tables_are_errors_among_the_samples(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for number in range(3):
        write(tmp_path / f"{number}.parquet", [{"image": f"{number}{n}"} for n in "abcdef"])
    damaged = tmp_path / "1.parquet"
    column = pq.ParquetFile(damaged).metadata.row_group(1).column(0)
    data = bytearray(damaged.read_bytes())
    start = column.dictionary_page_offset
    data[start : start + 20] = b"\xff" * 20
    damaged.write_bytes(data)
    ids, errors = read_all(tmp_path)
    assert set(ids) == {f"{number}{n}" for number in range(3) for n in "abcdef"} - {"1c", "1d"}
    assert [error[: error.index(":")] for error in errors] == ["/1.parquet"]
    damaged.write_bytes(b"no table")
    ids, errors = read_all(tmp_path)
    assert ids == [f"{number}{n}" for number in (0, 2) for n in "abcdef"]
    assert "not a Parquet file that can be read" in errors[0]
    assert "not a Parquet file that can be read" in read_error(damaged)
    rows = [{"image": "a"}, {"image": None}, {"image": "c"}]
    ids, errors = read_all(write(damaged, rows))
    assert (ids, errors[0][:7], len(errors)) == (["a", "c"], ", row 2", 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no.jsonl", None),
        ("a.xlsx", ""),
        ("a.jsonl", ""),
        ("a.csv", "a,b\n1,2\n"),
        ("a.json", "{"),
        ("a.json", "{}"),
        ("a.tar", "no tar file"),
        ("a.csv", b"\xff\n"),
        ("folder/a.txt", ""),
    ],
)
def test_data_that_cannot_be_read_at_all_are_refused(
    tmp_path: Path, name: str, content: str | bytes | None
) -> None:
    if content is not None:
        write(tmp_path / name, content)
    path = tmp_path / name if "folder" not in name else tmp_path / "folder"
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert read_error(path) == str(caught.value)


# ------------------------------------------------------------------------------------------ folders


def test_a_folder_means_every_image_below_it(tmp_path: Path) -> None:
    make_folder(tmp_path)
    assert len(read(tmp_path)) == 6
    assert [sample.id for sample in read(tmp_path, recursive=False)] == ["9.png", "10.jpg"]
    assert count_data(tmp_path) == 6
    assert count_data(tmp_path, recursive=False) == 2


INDEXES = ["metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl"]


@pytest.mark.parametrize("name", INDEXES)
def test_lists_add_columns_to_the_images_of_a_folder(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path)
    rows = [
        {"file_name": "s/a.jpg", "text": "listed", "prompt": "a ", "url": "https://x/a", "id": 3},
        {"file_name": "9.png", "text": "listed", "prompt": "b ", "url": None, "id": None},
        {"file_name": "no.jpg", "text": "listed", "prompt": None, "url": None, "id": None},
        {"file_name": "https://x/c.jpg", "text": "x", "prompt": None, "url": None, "id": None},
        {"file_name": "s/1.jpg", "text": None, "prompt": "", "url": None, "id": None},
        {"file_name": "./s/a.jpg", "text": "again", "prompt": None, "url": None, "id": None},
    ]
    cells = [[row[key] for key in rows[0]] for row in rows]
    lines = [list(rows[0]), *([cell or "" for cell in row] for row in cells)]
    text = "".join(",".join(map(str, line)) + "\n" for line in lines)
    write(tmp_path / name, text if name.endswith("csv") else rows)
    samples = {sample.id: sample for sample in read(tmp_path)}
    assert list(samples) == ["9.png", "10.jpg", "s/1.jpg", "S/2.jpg", "s/a.jpg", "s/B.jpg"]
    first = samples["s/a.jpg"]
    assert first == Sample(
        str(tmp_path / "s/a.jpg"), ("listed", "again"), "s/a.jpg", "a ", url="https://x/a"
    )
    assert (samples["9.png"].captions, samples["9.png"].prompt) == (("listed",), "b ")
    assert samples["s/1.jpg"].captions == ("one",)  # that of its sidecar
    assert samples["10.jpg"] == Sample(str(tmp_path / "10.jpg"), (), "10.jpg")


def test_every_subfolder_may_have_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, name in (("train", "metadata.jsonl"), ("val", "captions.jsonl")):
        write(tmp_path / split / name, [{"file_name": "p/a.jpg", "text": f"of {split}"}])
        write(tmp_path / split / "p/a.jpg", "")
    write(tmp_path / "metadata.jsonl", [{"file_name": "val/p/a.jpg", "text": "of all"}])
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, ".", f"../{tmp_path.name}"):
        assert [(sample.id, sample.captions) for sample in read(path)] == [
            ("train/p/a.jpg", ("of train",)),
            ("val/p/a.jpg", ("of all", "of val")),
        ]
    assert read("train")[0].captions == ("of train",)


def test_what_is_wrong_with_a_list_does_not_hide_the_images(tmp_path: Path) -> None:
    make_folder(tmp_path)
    index = write(tmp_path / "metadata.jsonl", '{"file_name": "9.png", "text": "x"}\n{\n')
    ids, errors = read_all(tmp_path)
    assert (len(ids), errors[0][:24]) == (6, "/metadata.jsonl, line 2:")
    index.unlink()
    write(tmp_path / "metadata.csv", "a,b\n1,2\n")
    ids, errors = read_all(tmp_path)
    assert len(ids) == 6
    assert errors[0].startswith("/metadata.csv, line 1: none of the columns a, b is recognized")


def test_columns_must_be_in_the_list_of_a_folder(tmp_path: Path) -> None:
    source = DataSource(str(make_folder(tmp_path)), columns=Columns(prompt_column="style"))
    assert "this kind of data has no columns" in read_error(source)
    write(tmp_path / "metadata.csv", "file_name,style\n9.png,a sketch of\n")
    assert [sample.prompt for sample in read(source)][:2] == ["a sketch of", None]
    write(tmp_path / "metadata.csv", "file_name,other\n9.png,a sketch of\n")
    assert "has no column `style`" in read_error(source)


def test_a_folder_with_a_list_of_other_images_is_refused(tmp_path: Path) -> None:
    index = write(tmp_path / "metadata.jsonl", [{"file_name": "/far/a.jpg"}])
    expected = f"{tmp_path}: a folder of images and of lists of their captions; give {index}"
    assert read_error(tmp_path) == expected


def test_shards_beside_a_list_are_read(tmp_path: Path) -> None:
    make_shards(tmp_path)
    write(tmp_path / "captions.jsonl", [{"file_name": "a.jpg"}])
    assert len(read(tmp_path)) == 22
    assert count_data(tmp_path) is None


# ---------------------------------------------------------------------------------------- addresses

URL_ROWS = [
    {"image": "a.jpg", "url": "https://x/a", "text": "1"},
    {"image": "https://x/b.jpg", "url": None, "text": "2"},
    {"image": None, "url": "https://x/c", "text": "3"},
]
HINT = "pass --allow-urls"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.json"])
def test_addresses_are_images_only_if_they_are_allowed(tmp_path: Path, name: str) -> None:
    lines = [",".join(map(str, (value or "" for value in row.values()))) for row in URL_ROWS]
    text = "image,url,text\n" + "\n".join(lines)
    content: Any = json.dumps(URL_ROWS) if name == "a.json" else URL_ROWS
    path = write(tmp_path / name, text if name == "a.csv" else content)
    samples = read(path, allow_urls=True)
    assert [(sample.image, sample.id, sample.url) for sample in samples] == [
        (str(tmp_path / "a.jpg"), "a.jpg", "https://x/a"),
        ("https://x/b.jpg", "https://x/b.jpg", "https://x/b.jpg"),
        ("https://x/c", "https://x/c", "https://x/c"),
    ]
    ids, errors = read_all(path)
    assert ids == ["a.jpg"]
    assert len(errors) == 2
    assert f"the image is at https://x/b.jpg; {HINT} to fetch it, or download it" in errors[0]
    assert errors[1].endswith(f"and give the folder that it writes, or {HINT}")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("column", ["url", "URL", "image_url"])
def test_tables_of_addresses_are_refused_at_once(tmp_path: Path, name: str, column: str) -> None:
    rows = [{column: f"https://x/{n}", "text": "a"} for n in range(3)]
    text = f"{column},text\n" + "".join(f"https://x/{n},a\n" for n in range(3))
    path = write(tmp_path / name, text if name == "a.csv" else rows)
    assert read_error(path).endswith(f"and give the folder that it writes, or {HINT}")
    samples = read(path, allow_urls=True)
    assert [sample.image for sample in samples] == [f"https://x/{n}" for n in range(3)]
    assert [sample.captions for sample in samples] == [("a",)] * 3


def test_tables_of_addresses_need_names_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "cc3.tsv", "a station\thttps://x/a.jpg\n")
    with pytest.raises(DataError, match="line 1: the columns have no names; add a first line"):
        read(path, allow_urls=True)


# ------------------------------------------------------------------------------------------ lists


def test_lists_of_paths_and_addresses_are_read(tmp_path: Path) -> None:
    names = b"a.jpg\r\n\n  ./b/../c.jpg\t\n/far/d.jpg\nhttps://x/e?f=1\ns3://b/\xff.jpg\n"
    path = write(tmp_path / "list.txt", b"\xef\xbb\xbf" + names)
    lines = list(iter_lines(path, errors="surrogateescape"))
    assert [(sample.image, sample.id) for sample in iter_list(lines)] == [
        ("a.jpg", "a.jpg"),
        ("c.jpg", "./b/../c.jpg"),
        ("/far/d.jpg", "/far/d.jpg"),
        ("https://x/e?f=1", "https://x/e?f=1"),
        ("s3://b/\udcff.jpg", "s3://b/\udcff.jpg"),
    ]
    assert [sample.image for sample in iter_list(lines, "r")][:3] == [
        "r/a.jpg",
        "r/c.jpg",
        "/far/d.jpg",
    ]
    assert count_data(path) == 6
    assert next(iter_list(itertools.repeat("a.jpg"))).image == "a.jpg"
    error = DataError("line 2: too long")
    assert list(iter_list(["a.jpg", error, "b.jpg"]))[1] is error


LENGTHS = [2_000, pytest.param(50_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", ["list.txt", "a.jsonl", "a.csv", "a.tsv", "a.parquet"])
def test_memory_does_not_grow_with_the_number_of_rows(
    tmp_path: Path, kind: str, length: int
) -> None:
    names = [f"some/folder/of/images/image-{number:06d}.jpg" for number in range(length)]
    rows = [{"image": name, "text": f"a dog called {name}"} for name in names]
    delimiter = "\t" if kind == "a.tsv" else ","
    table = "".join(f"{row['image']}{delimiter}{row['text']}\n" for row in rows)
    if kind == "list.txt":
        path = write(tmp_path / kind, "\n".join(names))
    elif kind in ("a.csv", "a.tsv"):
        path = write(tmp_path / kind, f"image{delimiter}text\n{table}")
    else:
        path = write(tmp_path / kind, rows)
    del rows, table
    samples = iter_list(iter_lines(path)) if kind == "list.txt" else iter_data(path)
    next(samples)  # imports pyarrow
    tracemalloc.start()
    try:
        assert all(sample.id == name for sample, name in zip(samples, names[1:], strict=True))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert count_data(path) in (length, length + 1)


def test_data_that_cannot_be_counted_have_no_count(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("no.jsonl", "", "\0", "no/*.parquet"):
        assert count_data(str(tmp_path / name) if name else name) is None
    assert count_data(write(tmp_path / "a.txt", "a\nb")) == 2
    assert count_data(write(tmp_path / "b.txt", "")) == 0
    (tmp_path / "a.parquet").write_bytes(b"no table")
    assert count_data(tmp_path / "a.parquet") is None
