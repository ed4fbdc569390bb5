"""What all readers share."""

from pathlib import Path

import pytest

from cutline.data import Sample
from cutline.data.sample import group_by_image, image_path, merge_rows, read_text
from cutline.errors import DataError


def test_a_sample_is_named_after_its_path_or_id() -> None:
    assert Sample("images/a.jpg", (), "7").name == "images/a.jpg"
    assert Sample(b"\xff\xd8", (), "7").name == "7"


def test_a_samples_own_prompt_takes_precedence_even_if_empty() -> None:
    assert Sample("a.jpg", (), "7", "a photo of ").prompt_or("a picture of ") == "a photo of "
    assert Sample("a.jpg", (), "7", "").prompt_or("a picture of ") == ""
    assert Sample("a.jpg", (), "7").prompt_or("a picture of ") == "a picture of "


ROWS = [
    Sample("b", ("1",), "x"),
    Sample("a", ("2",), "y"),
    Sample("b", ("3", "1"), "z"),
    Sample("b", ("4",), "x", "a photo of "),
]


def test_group_by_image_joins_captions_of_the_same_image() -> None:
    assert group_by_image(ROWS) == [Sample("b", ("1", "3", "1", "4"), "x"), ROWS[1]]


def test_group_by_image_takes_a_key() -> None:
    groups = group_by_image(ROWS, lambda sample: sample.id)
    assert groups == [Sample("b", ("1", "4"), "x"), ROWS[1], ROWS[2]]


def test_merge_rows_joins_captions_of_the_same_image_and_prompt() -> None:
    assert merge_rows(ROWS) == [Sample("b", ("1", "3", "1"), "x"), ROWS[1], ROWS[3]]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "data/a.jpg"),
        ("./x/../a.jpg", "data/a.jpg"),
        ("../a.jpg", "a.jpg"),
        ("/images/a.jpg", "/images/a.jpg"),
        ("https://host/a.jpg", "https://host/a.jpg"),
        ("ảnh số 1.jpg", "data/ảnh số 1.jpg"),
    ],
)
def test_picture_paths(name: str, path: str) -> None:
    assert image_path(name, "data") == path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_with_and_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Một chú chó\r\n🐕".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "Một chú chó\r\n🐕"


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\ntwo\nün chien\n".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert str(caught.value) == f"{path}, line 3: not UTF-8 text; save the file as UTF-8"


def test_text_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_text(tmp_path / "no.txt")
    assert (
        str(caught.value)
        == f"{tmp_path / 'no.txt'}: cannot be read (No such file or directory); check the path and its permissions"
    )
