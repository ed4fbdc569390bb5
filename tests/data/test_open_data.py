"""Datasets are recognized by their form; image arguments become lists of files."""

import json
from pathlib import Path

import pytest

from cutline.config import Columns, DataSource
from cutline.data import Sample, open_data, open_related_data
from cutline.errors import DataError

FORMATS = (
    "JSON Lines (.jsonl), COCO, BLIP, Karpathy or NoCaps captions (.json), tables (.csv, .tsv, "
    ".parquet), tar shards, or a folder of images with .txt files beside them"
)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def open_split(path: Path, split: str) -> list[Sample]:
    return open_data(DataSource(str(path), split=split))


def open_error(path: Path | str, split: str = "") -> str:
    with pytest.raises(DataError) as caught:
        open_data(DataSource(str(path), split=split))
    return str(caught.value)


# ---------------------------------------------------------------------------------------- datasets


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.jsonl"])
def test_the_index_of_a_folder_is_read(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "unnamed.jpg")
    (tmp_path / name).write_text('{"file_name": "a.jpg", "text": "a dog"}\n')
    (sample,) = open_data(tmp_path)
    assert (sample.image, sample.captions) == (str(tmp_path / "a.jpg"), ("a dog",))


METADATA = {
    "metadata.jsonl": '{"file_name": "sub/a.jpg", "text": "a dog"}\n{"file_name": "b.jpg"}\n',
    "metadata.csv": "file_name,text\nsub/a.jpg,a dog\nb.jpg,\n",
}


def write_metadata(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    if name in METADATA:
        (folder / name).write_text(METADATA[name])
    else:
        rows = {"file_name": ["sub/a.jpg", "b.jpg"], "text": ["a dog", None]}
        pytest.importorskip("pyarrow.parquet").write_table(
            pytest.importorskip("pyarrow").table(rows), folder / name
        )


@pytest.mark.parametrize("name", [*METADATA, "metadata.parquet"])
def test_hugging_faces_imagefolder_is_read(tmp_path: Path, name: str) -> None:
    folder, splits = tmp_path / "folder", tmp_path / "splits"
    write_metadata(folder, name)
    fill(folder, "unlisted.jpg")
    assert [(sample.image, sample.captions, sample.id) for sample in open_data(folder)] == [
        (str(folder / "sub/a.jpg"), ("a dog",), "sub/a.jpg"),
        (str(folder / "b.jpg"), (), "b.jpg"),
    ]
    for split in ("train", "validation", "test"):
        write_metadata(splits / split, name)
    samples = open_data(splits)
    assert [sample.id for sample in samples] == [
        f"{split}/{image}"
        for split in ("train", "validation", "test")
        for image in ("sub/a.jpg", "b.jpg")
    ]
    assert samples[3].image == str(splits / "validation/b.jpg")
    for split in ("validation", "val"):
        assert open_split(splits, split) == open_data(splits / "validation")
    assert open_error(splits, "dev2") == f"{splits}: has no split `dev2`; remove `--split`"


def test_a_split_may_be_a_folder_of_images(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.jpg", "val/b.jpg", "loose.jpg")
    assert [sample.id for sample in open_split(tmp_path, "train")] == ["a.jpg"]
    assert [sample.id for sample in open_split(tmp_path, "validation")] == ["b.jpg"]
    assert [sample.id for sample in open_data(tmp_path)] == [
        "loose.jpg",
        "train/a.jpg",
        "val/b.jpg",
    ]


def test_only_the_first_index_is_read(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"file_name": "b.jpg"}')
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg"}')
    assert [sample.id for sample in open_data(tmp_path)] == ["a.jpg"]


@pytest.mark.parametrize(
    "text", ['{"image": "a.jpg"}\n{"image": "b.jpg"}\n', '\n{"image": "a.jpg"}\n{"image": "b.jpg"}']
)
def test_json_lines_are_recognized_in_files_with_other_extensions(
    tmp_path: Path, text: str
) -> None:
    for name in ("data.json", "data.ndjson", "data.JSONL"):
        (tmp_path / name).write_text(text)
        assert [sample.id for sample in open_data(str(tmp_path / name))] == ["a.jpg", "b.jpg"]


def test_indented_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(
        "\ufeff" + json.dumps([{"image": "a.jpg", "caption": "a"}], indent=1), encoding="utf-8"
    )
    assert [sample.captions for sample in open_data(tmp_path / "data.json")] == [("a",)]


def test_invalid_json_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"image": "a.jpg"},]')
    assert open_error(path).startswith(f"{path}: not JSON (")


def test_missing_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.jsonl"
    assert open_error(path) == f"{path}: no such file or folder; check the path"


def test_an_empty_path_is_not_the_current_folder() -> None:
    assert open_error("") == "no data given; name a data file or a folder of images"


@pytest.mark.parametrize("name", ["a.xlsx", "a.jpg", "a.md", "a"])
def test_the_error_for_another_format_lists_the_supported_ones(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name)
    path = tmp_path / name
    assert open_error(path) == f"{path}: not a supported data format; give {FORMATS}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", ""),
        ("a.jsonl", "\n\n"),
        ("a.csv", " \n"),
        ("a.csv", "image,caption\n"),
        ("a.json", "[]"),
        ("a.json", '{"images": [], "annotations": []}'),
    ],
)
def test_empty_data_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    path = tmp_path / name
    assert open_error(path) == f"{path}: contains no images; give {FORMATS}"


def test_a_split_of_data_without_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.jpg"}')
    (tmp_path / "a.json").write_text('{"image": "a.jpg"}')
    for path in (tmp_path / "a.jsonl", tmp_path / "a.json", tmp_path):
        assert open_error(path, "val") == f"{path}: has no split `val`; remove `--split`"


def test_a_tilde_stands_for_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text('{"image": "a.jpg"}')
    (sample,) = open_data(DataSource("~/a.jsonl", "~/photos"))
    assert sample.image == str(tmp_path / "photos/a.jpg")


def test_images_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "nowhere/a.jpg"}')
    assert open_data(tmp_path / "a.jsonl")[0].image == str(tmp_path / "nowhere/a.jpg")


def test_related_data_may_have_the_default_columns_instead_of_the_named_ones(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.csv").write_text("photo,caption\na.jpg,a dog\n")
    (tmp_path / "usual.csv").write_text("image,caption\na.jpg,a dog\n")
    (tmp_path / "other.csv").write_text("title,caption\na.jpg,a dog\n")

    def open_related(name: str) -> list[Sample]:
        return open_related_data(DataSource(str(tmp_path / name), columns=Columns("photo")))

    assert open_related("own.csv") == open_related("usual.csv")
    with pytest.raises(DataError, match="has no column `photo`"):
        open_related("other.csv")
    for name, columns in (
        ("own.csv", Columns("photo", "title")),
        ("usual.csv", Columns("photo", "caption")),
        ("usual.csv", Columns("photo", "title")),
    ):
        source = DataSource(str(tmp_path / name), columns=columns)
        assert open_related_data(source) == open_related("own.csv")
