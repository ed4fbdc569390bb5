"""Samples: names, prompts and grouping."""

import pytest

from cutline.data import Sample, group_by_image
from cutline.data.remote import RemoteImage
from cutline.data.sample import image_path, merge_rows


def test_a_sample_is_named_after_its_path_or_id() -> None:
    assert Sample("images/a.jpg", (), "7").name == "images/a.jpg"
    assert Sample(b"\xff\xd8", (), "7").name == "7"


def test_only_files_of_their_own_have_a_local_path() -> None:
    assert Sample("images/a.jpg", (), "7").local_path == "images/a.jpg"
    for image in ("https://a/b.jpg", "s3://a/b.jpg", b"\xff\xd8", RemoteImage("file:///a.jpg")):
        assert Sample(image, (), "7").local_path == ""


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
def test_image_paths_are_normalized(name: str, path: str) -> None:
    assert image_path(name, "data") == path
