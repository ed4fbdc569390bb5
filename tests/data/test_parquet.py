"""Parquet files whose images are paths, or are contained in the file."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from PIL import Image

from cutline.config import DataSource
from cutline.data import Sample, open_data, parquet, parquet_image
from cutline.data.parquet_image import ParquetImage
from cutline.data.sample import stamp_image
from cutline.errors import DataError, ImageError
from cutline.image import open_image

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def encode_png(gray: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 3), (gray, gray, gray)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, rows: list[dict[str, Any]], group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def open_in(path: Path, image_root: str) -> list[Sample]:
    return open_data(DataSource(str(path), image_root))


def grays(samples: list[Sample]) -> list[int]:
    """Return the gray level of each image."""
    return [open_image(sample.image).getpixel((0, 0))[0] for sample in samples]


def test_images_may_be_paths(tmp_path: Path) -> None:
    rows = [
        {"image": name, "caption": text, "image_id": 7, "domain": "near-domain"}
        for name, text in (("a", "1"), ("b", "2"), ("a", "3"))
    ]
    path = write(tmp_path / "a.parquet", rows)
    assert open_in(path, "p") == [
        Sample("p/a", ("1", "3"), "7", None, "near-domain"),
        Sample("p/b", ("2",), "7", None, "near-domain"),
    ]
    assert open_data(path)[0].image == str(tmp_path / "a")


def test_bytes_of_images_are_not_loaded(tmp_path: Path) -> None:
    rows = [{"image": encode_png(gray), "captions": [f"gray {gray}", ""]} for gray in range(5)]
    samples = open_data(write(tmp_path / "a.parquet", rows))
    assert [sample.captions for sample in samples] == [(f"gray {gray}",) for gray in range(5)]
    assert [sample.id for sample in samples] == [f"a.parquet/{row}" for row in range(1, 6)]
    assert str(samples[4].image) == f"{tmp_path / 'a.parquet'}, row 5"
    assert len(pickle.dumps(samples)) < 1500
    assert grays(samples) == [0, 1, 2, 3, 4]
    assert grays(list(reversed(pickle.loads(pickle.dumps(samples))))) == [4, 3, 2, 1, 0]


def test_stamps_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"image": encode_png(gray)} for gray in range(3)])
    stamps = [stamp_image(sample.image) for sample in open_data(path)]
    assert stamps == [f"{path.stat().st_size}-{path.stat().st_mtime_ns}"] * 3
    sample = open_data(path)[0]
    path.unlink()
    assert stamp_image(sample.image) == ""


def test_hugging_faces_structs_are_read(tmp_path: Path) -> None:
    embedded = [
        {"image": {"bytes": encode_png(gray), "path": "same.png"}, "text": "x"} for gray in range(3)
    ]
    assert grays(open_data(write(tmp_path / "embedded.parquet", embedded))) == [0, 1, 2]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": None, "path": f"{n}.png"} for n in range(3)], kind)
    pq.write_table(pa.table({"image": images}), tmp_path / "paths.parquet")
    samples = open_in(tmp_path / "paths.parquet", "p")
    assert [sample.image for sample in samples] == ["p/0.png", "p/1.png", "p/2.png"]


def test_a_row_without_an_image_is_an_image_error(tmp_path: Path) -> None:
    samples = open_data(write(tmp_path / "a.parquet", [{"image": encode_png(1)}, {"image": None}]))
    assert grays(samples[:1]) == [1]
    with pytest.raises(ImageError) as caught:
        open_image(samples[1].image)
    message = f"{tmp_path / 'a.parquet'}, row 2: the row contains no image; remove it"
    assert str(caught.value) == message


def test_img2datasets_tables_are_read_without_failed_downloads(tmp_path: Path) -> None:
    rows = [
        {
            "key": "000000000",
            "status": "success",
            "caption": "gray",
            "url": "https://x/a",
            "jpg": encode_png(9),
        },
        {
            "key": "000000001",
            "status": "failed_to_download",
            "caption": "lost",
            "url": "https://x/b",
            "jpg": None,
        },
    ]
    write(tmp_path / "00000.parquet", rows)
    (tmp_path / "00000_stats.json").write_text("{}")
    (sample,) = open_data(tmp_path)
    assert (sample.id, sample.captions, grays([sample])) == ("000000000", ("gray",), [9])


def test_tables_of_urls_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "laion.parquet", [{"URL": "https://x/a", "TEXT": "a dog"}])
    with pytest.raises(DataError) as caught:
        open_data(path)
    message = f"{path}: contains URLs of images instead of images; download them with img2dataset"
    assert str(caught.value).startswith(message)


def test_folders_of_parquet_files_have_splits(tmp_path: Path) -> None:
    names = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"]
    for name in names:
        write(tmp_path / "data" / f"{name}.parquet", [{"image": f"{name}.jpg"}])

    def ids(path: Path, split: str = "") -> list[str]:
        return [
            sample.id.removesuffix(".jpg")
            for sample in open_data(DataSource(str(path), split=split))
        ]

    assert ids(tmp_path) == names
    assert ids(tmp_path, "train") == ids(tmp_path / "data/train-*.parquet") == names[:2]
    assert ids(tmp_path, "val") == ids(tmp_path / "data", "validation") == names[2:]
    with pytest.raises(DataError, match="has no split `test`; remove `--split`"):
        ids(tmp_path, "test")
    with pytest.raises(
        DataError, match=r"test-\*\.parquet: no such file or folder; check the path"
    ):
        open_data(tmp_path / "data/test-*.parquet")


def test_loose_images_take_precedence_over_tables(tmp_path: Path) -> None:
    """With `files` as output format, img2dataset writes a folder of images beside each table."""
    row = {"key": "000000000", "url": "https://x/a", "caption": "a dog"}
    write(tmp_path / "00000.parquet", [row])
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / "000000000.jpg").touch()
    (tmp_path / "00000" / "000000000.txt").write_text("a dog")
    (tmp_path / "00000" / "000000000.json").write_text('{"caption": "a dog"}')
    assert open_data(tmp_path) == [
        Sample(str(tmp_path / "00000/000000000.jpg"), ("a dog",), "00000/000000000.jpg")
    ]


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no more")
    message = r"a\.parquet: not a Parquet file that can be read \(.*\); copy it again, or remove it"
    with pytest.raises(DataError, match=message):
        open_data(path)
    write(path, [{"a": 1, "b": 2}])
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value) == (
        f"{path}: none of the columns a, b is recognized as the image column; "
        "rename the right one to `image`, or name it in `--image-column`"
    )
    write(path, [{"image": "a.jpg"}, {"image": ""}])
    message = r"a\.parquet, row 2: the row names no image; give its path as `file_name`"
    with pytest.raises(DataError, match=message):
        open_data(path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"image": encode_png(1)}])
    (sample,) = open_data(path)
    assert grays([sample]) == [1]
    write(path, [{"image": encode_png(200), "caption": "so that the size differs"}])
    assert grays([sample]) == [200]
    path.unlink()
    message = r"a\.parquet, row 1: the table cannot be read \(.*No such file"
    with pytest.raises(ImageError, match=message):
        ParquetImage(str(path), "image", 0, 0, 1).read()


def test_threads_read_a_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"image": encode_png(gray)} for gray in range(8)]
    samples = open_data(write(tmp_path / "a.parquet", rows, group=8))
    opened = []
    open_parquet, barrier = parquet_image.open_parquet, Barrier(8)

    def open_slowly(path: str) -> Any:
        opened.append(path)
        sleep(0.05)
        return open_parquet(path)

    def read(sample: Sample) -> int:
        barrier.wait()
        return grays([sample])[0]

    monkeypatch.setattr(parquet_image, "open_parquet", open_slowly)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, samples)) == list(range(8))
    assert len(opened) == 1


def test_structs_may_lack_paths_or_bytes(tmp_path: Path) -> None:
    def write_structs(fields: dict[str, Any], values: list[dict[str, Any]]) -> Path:
        kind = pa.struct(fields)
        pq.write_table(pa.table({"image": pa.array(values, kind)}), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    for images in ([encode_png(1)], []):
        values = [{"bytes": image} for image in (*images, None)]
        *valid, sample = open_data(write_structs({"bytes": pa.binary()}, values))
        assert grays(valid) == [1] * len(images)
        with pytest.raises(ImageError, match="the row contains no image; remove it"):
            open_image(sample.image)
    path = write_structs(
        {"bytes": pa.binary(), "path": pa.string()}, [{"bytes": None, "path": None}]
    )
    with pytest.raises(DataError, match=r"a\.parquet, row 1: the row names no image"):
        open_data(path)
    path = write_structs({"path": pa.string()}, [{"path": "a.jpg"}])
    assert open_in(path, "p")[0].image == "p/a.jpg"
    path = write_structs({"src": pa.string()}, [{"src": "a.jpg"}])
    message = r"the column `image` has the fields src, but neither `bytes` nor `path`; name another"
    with pytest.raises(DataError, match=message):
        open_data(path)


@pytest.mark.parametrize(
    ("group", "size", "warns"), [(11, 1, True), (10, 1, False), (2, 6000, True), (2, 1000, False)]
)
def test_row_groups_too_large_for_training_cause_a_warning(
    tmp_path: Path,
    group: int,
    size: int,
    warns: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "MAX_GROUP_ROWS", 10)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 10_000)
    rows = [{"image": b"x" * size, "caption": "x"} for _ in range(group)]
    pq.write_table(
        pa.Table.from_pylist(rows),
        tmp_path / "a.parquet",
        row_group_size=group,
        use_dictionary=False,
        compression="none",
    )
    assert len(open_data(tmp_path / "a.parquet")) == len(rows)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warns
    assert not warns or (
        "a.parquet: " in caplog.text
        and "`row_group_size`" in caplog.text
        and "tar shards" in caplog.text
    )


def test_values_that_a_small_file_repeats_are_in_memory_once(tmp_path: Path) -> None:
    """Expanded, the images of this small file would take 20 GB."""
    path, num_rows, text = tmp_path / "a.parquet", 20_000, "x" * 1_000_000
    codes = pa.array([0] * num_rows, pa.int32())
    images = pa.DictionaryArray.from_arrays(codes, pa.array([text.encode()]))
    captions = pa.DictionaryArray.from_arrays(codes, pa.array([text]))
    table = pa.table({"image": images, "caption": captions, "id": range(num_rows)})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    samples = open_data(path)
    assert len({id(sample.captions[0]) for sample in samples}) == 1
    assert samples[7].image.read() == text.encode()


def test_a_file_that_declares_more_rows_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.nulls(10**6, pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="declares more values than it can hold"):
        open_data(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "caption",
    [
        pa.array([b"\xff"]).view(pa.string()),
        pa.array([2**62], pa.timestamp("us")),
        pa.array([{"a": [1]}]),
        pa.array([b"x" * 10_000]),
    ],
)
def test_values_of_other_types_are_errors(tmp_path: Path, caption: pa.Array) -> None:
    table = pa.table({"image": ["a.jpg"], "caption": caption})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"a\.parquet.*(is not text|cannot|not a Parquet)"
    ) as caught:
        open_data(tmp_path / "a.parquet")
    assert len(str(caught.value)) < 500


def test_repeated_columns_are_refused(tmp_path: Path) -> None:
    table = pa.table([["a.jpg"], ["a"], ["b"]], ["image", "text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="2 columns are named `text`"):
        open_data(tmp_path / "a.parquet")
