"""COCO's results: integers of images, and files of captions."""

import json
from pathlib import Path

import pytest

from cutline.data import is_results_path, write_results
from cutline.data.coco_results import find_coco_number, find_image_id
from cutline.errors import ConfigError, DataError

ROWS = [
    {"image": "a.jpg", "id": "42", "caption": "a dog, “sitting”\n", "score": -1.5},
    {"image": "val2014/COCO_val2014_000000000007.jpg", "id": "x", "caption": ""},
]


@pytest.mark.parametrize(
    ("id", "name", "image_id"),
    [
        ("42", "a.jpg", 42),
        ("0", "000000000007.jpg", 0),
        ("-3", "", -3),
        ("042", "a.jpg", None),
        ("4.2", "a.jpg", None),
        ("٤٢", "a.jpg", None),
        ("9" * 5000, "a.jpg", None),
        ("", "", None),
        ("a.jpg", "photos/a.jpg", None),
        ("coco_42", "val2014/COCO_val2014_000000000042.jpg", 42),
        ("000000000042.jpg", "elsewhere.jpg", 42),
        ("a", "C:\\val2017\\000000000042.jpg", 42),
        ("0013ea2087020901.jpg", "val/0013ea2087020901.jpg", None),
        ("1234000000000042.jpg", "", None),
    ],
)
def test_integer_of_an_image_is_its_id_or_in_its_name(
    id: str, name: str, image_id: int | None
) -> None:
    assert find_image_id(id, name) == image_id
    assert find_coco_number(id) in (None, image_id)


def test_results_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    assert is_results_path(path)
    write_results(path, iter(ROWS))
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"image_id": 42, "caption": "a dog, “sitting”\n"},
        {"image_id": 7, "caption": ""},
    ]
    write_results(path, [])
    assert json.loads(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"image": "p/b.jpg", "id": "b.jpg", "caption": "x"},
            "p/b.jpg: the id 'b.jpg' is not an integer, as `image_id` in {path} must be; "
            "write results.jsonl instead",
        ),
        (
            {"image": "b.jpg", "id": "42", "caption": "x"},
            "{path}: a.jpg and b.jpg have the same image_id, 42; make ids unique, or write "
            "results.jsonl instead",
        ),
    ],
)
def test_images_without_an_integer_of_their_own_are_named(
    tmp_path: Path, row: dict[str, str], message: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text("[]")
    with pytest.raises(ConfigError) as error:
        write_results(path, [*ROWS, row])
    assert str(error.value) == message.format(path=path)
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    assert path.read_text() == "[]"


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_results(tmp_path / "file" / "results.json", ROWS)
