"""Parquet files, with images as paths and inside."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from PIL import Image

from cutline.data import Sample, open_data, parquet
from cutline.data.parquet import Cell
from cutline.errors import DataError, ImageError
from cutline.image import open_image

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def picture(grey: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 3), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, rows: list[dict[str, Any]], group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def greys(samples: list[Sample]) -> list[int]:
    return [open_image(sample.image).getpixel((0, 0))[0] for sample in samples]  # type: ignore[index]


def test_paths(tmp_path: Path) -> None:
    rows = [
        {"image": name, "caption": text, "image_id": 7, "domain": "near-domain"}
        for name, text in (("a", "1"), ("b", "2"), ("a", "3"))
    ]
    path = write(tmp_path / "a.parquet", rows)
    assert open_data(path, "p") == [
        Sample("p/a", ("1", "3"), "7", None, "near-domain"),
        Sample("p/b", ("2",), "7", None, "near-domain"),
    ]
    assert open_data(path)[0].image == str(tmp_path / "a")


def test_bytes_stay_in_the_file(tmp_path: Path) -> None:
    rows = [{"image": picture(grey), "captions": [f"grey {grey}", ""]} for grey in range(5)]
    samples = open_data(write(tmp_path / "a.parquet", rows))
    assert [sample.captions for sample in samples] == [(f"grey {grey}",) for grey in range(5)]
    assert [sample.id for sample in samples] == [f"a.parquet/{row}" for row in range(1, 6)]
    assert str(samples[4].image) == f"{tmp_path / 'a.parquet'}, row 5"
    assert len(pickle.dumps(samples)) < 1500
    assert greys(samples) == [0, 1, 2, 3, 4]
    assert greys(list(reversed(pickle.loads(pickle.dumps(samples))))) == [4, 3, 2, 1, 0]


def test_hugging_face_s_structs(tmp_path: Path) -> None:
    inside = [
        {"image": {"bytes": picture(grey), "path": "same.png"}, "text": "x"} for grey in range(3)
    ]
    outside = [{"image": {"bytes": None, "path": f"{n}.png"}, "text": "x"} for n in range(3)]
    samples = open_data(write(tmp_path / "in.parquet", inside))
    assert greys(samples) == [0, 1, 2]
    table = pa.table(
        {
            "image": pa.array(
                [row["image"] for row in outside],
                pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            )
        }
    )
    pq.write_table(table, tmp_path / "out.parquet")
    assert [sample.image for sample in open_data(tmp_path / "out.parquet", "p")] == [
        "p/0.png",
        "p/1.png",
        "p/2.png",
    ]


def test_a_row_without_its_picture(tmp_path: Path) -> None:
    samples = open_data(write(tmp_path / "a.parquet", [{"image": picture(1)}, {"image": None}]))
    assert greys(samples[:1]) == [1]
    with pytest.raises(ImageError) as caught:
        open_image(samples[1].image)
    assert (
        str(caught.value)
        == f"{tmp_path / 'a.parquet'}, row 2: the row holds no image; leave it out"
    )


def test_img2dataset_s_tables(tmp_path: Path) -> None:
    rows = [
        {
            "key": "000000000",
            "status": "success",
            "caption": "grey",
            "url": "https://x/a",
            "jpg": picture(9),
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
    assert (sample.id, sample.captions, greys([sample])) == ("000000000", ("grey",), [9])


def test_lists_of_addresses(tmp_path: Path) -> None:
    path = write(tmp_path / "laion.parquet", [{"URL": "https://x/a", "TEXT": "a dog"}])
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value).startswith(
        f"{path}: holds addresses of images, not images; download them with img2dataset"
    )


def test_parts(tmp_path: Path) -> None:
    names = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"]
    for name in names:
        write(tmp_path / "data" / f"{name}.parquet", [{"image": f"{name}.jpg"}])

    def ids(path: Path, split: str = "") -> list[str]:
        return [sample.id.removesuffix(".jpg") for sample in open_data(path, split=split)]

    assert ids(tmp_path) == names
    assert ids(tmp_path, "train") == ids(tmp_path / "data/train-*.parquet") == names[:2]
    assert ids(tmp_path, "val") == ids(tmp_path / "data", "validation") == names[2:]
    with pytest.raises(DataError, match="has no splits to take `test` from; leave the split out"):
        open_data(tmp_path, split="test")
    with pytest.raises(
        DataError, match=r"test-\*\.parquet: no such file or folder; check the path"
    ):
        open_data(tmp_path / "data/test-*.parquet")


def test_pictures_go_before_tables(tmp_path: Path) -> None:
    """As img2dataset's `files` form: a folder of images for each table of what was downloaded."""
    write(
        tmp_path / "00000.parquet", [{"key": "000000000", "url": "https://x/a", "caption": "a dog"}]
    )
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / "000000000.jpg").touch()
    (tmp_path / "00000" / "000000000.txt").write_text("a dog")
    (tmp_path / "00000" / "000000000.json").write_text('{"caption": "a dog"}')
    assert open_data(tmp_path) == [
        Sample(str(tmp_path / "00000/000000000.jpg"), ("a dog",), "00000/000000000.jpg")
    ]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(
        DataError,
        match=r"a\.parquet: not a Parquet file that can be read \(.*\); copy it again, or leave it out",
    ):
        open_data(path)
    write(path, [{"a": 1, "b": 2}])
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value) == (
        f"{path}: no column is an image's; there are a, b; call one image, or name the image column (`--columns.image`, or "
        "`data.image_column` in a recipe)"
    )
    write(path, [{"image": "a.jpg"}, {"image": ""}])
    with pytest.raises(
        DataError,
        match=r"a\.parquet, row 2: the row names no image; give its path as `file_name`",
    ):
        open_data(path)


def test_a_file_that_has_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"image": picture(1)}])
    (sample,) = open_data(path)
    assert greys([sample]) == [1]
    write(path, [{"image": picture(200), "more": "to be of another size"}])
    assert greys([sample]) == [200]
    path.unlink()
    with pytest.raises(
        ImageError, match=r"a\.parquet, row 1: the table cannot be read \(.*No such file"
    ):
        Cell(str(path), "image", 0, 0, 1).read()


def test_threads_read_a_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = open_data(
        write(tmp_path / "a.parquet", [{"image": picture(grey)} for grey in range(8)], group=8)
    )
    opened = []
    plain, all_here = parquet._open, Barrier(8)

    def slowly(path: str) -> Any:
        opened.append(path)
        sleep(0.05)
        return plain(path)

    def read(sample: Sample) -> int:
        all_here.wait()
        return greys([sample])[0]

    monkeypatch.setattr(parquet, "_open", slowly)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, samples)) == list(range(8))
    assert len(opened) == 1


def test_structs_without_paths_or_pictures(tmp_path: Path) -> None:
    def structs(fields: dict[str, Any], values: list[dict[str, Any]]) -> Path:
        kind = pa.struct(fields)
        pq.write_table(pa.table({"image": pa.array(values, kind)}), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    for pictures in ([picture(1)], []):
        *known, sample = open_data(
            structs({"bytes": pa.binary()}, [{"bytes": one} for one in (*pictures, None)])
        )
        assert greys(known) == [1] * len(pictures)
        with pytest.raises(ImageError, match="the row holds no image; leave it out"):
            open_image(sample.image)
    with pytest.raises(DataError, match=r"a\.parquet, row 1: the row names no image"):
        open_data(
            structs({"bytes": pa.binary(), "path": pa.string()}, [{"bytes": None, "path": None}])
        )
    assert open_data(structs({"path": pa.string()}, [{"path": "a.jpg"}]), "p")[0].image == "p/a.jpg"
    with pytest.raises(
        DataError,
        match=r"a\.parquet: the column `image` holds src, neither bytes nor a path; name the image column",
    ):
        open_data(structs({"src": pa.string()}, [{"src": "a.jpg"}]))


@pytest.mark.parametrize(
    ("group", "size", "told"), [(11, 1, True), (10, 1, False), (2, 6000, True), (2, 1000, False)]
)
def test_row_groups_too_large_for_training_are_told(
    tmp_path: Path,
    group: int,
    size: int,
    told: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "MOST_ROWS", 10)
    monkeypatch.setattr(parquet, "MOST_BYTES", 10_000)
    rows = [{"image": b"x" * size, "caption": "x"} for _ in range(group)]
    pq.write_table(
        pa.Table.from_pylist(rows),
        tmp_path / "a.parquet",
        row_group_size=group,
        use_dictionary=False,
        compression="none",
    )
    assert len(open_data(tmp_path / "a.parquet")) == len(rows)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * told
    assert not told or (
        "a.parquet: " in caplog.text
        and "`row_group_size`" in caplog.text
        and "tar shards" in caplog.text
    )
