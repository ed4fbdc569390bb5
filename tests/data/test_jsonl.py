"""JSON Lines in the variants that occur in practice."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutline.config import DataSource
from cutline.data import Sample, open_data
from cutline.errors import DataError


def read(folder: Path, text: str | bytes, **options: str) -> list[Sample]:
    (folder / "data.jsonl").write_bytes(text.encode() if isinstance(text, str) else text)
    return open_data(DataSource(str(folder / "data.jsonl"), **options))


@pytest.mark.parametrize("image_key", ["file_name", "image", "image_path", "path"])
@pytest.mark.parametrize(
    "captions",
    [
        {"captions": ["a dog"]},
        {"caption": "a dog"},
        {"caption": ["a dog"]},
        {"text": "a dog"},
        {"captions": "a dog"},
        {"caption": None, "text": "a dog"},
    ],
)
def test_default_keys_are_recognized(
    tmp_path: Path, image_key: str, captions: dict[str, object]
) -> None:
    assert read(tmp_path, json.dumps({image_key: "x/a.jpg", **captions})) == [
        Sample(str(tmp_path / "x/a.jpg"), ("a dog",), "x/a.jpg")
    ]


def test_id_and_prompt_are_read(tmp_path: Path) -> None:
    rows = (
        '{"file_name": "a.jpg", "id": 7, "image_id": "p1", "prompt": "a photo of "}\n'
        '{"file_name": "b.jpg", "id": 7}\n'
    )
    first, second = read(tmp_path, rows)
    assert first == Sample(str(tmp_path / "a.jpg"), (), "p1", "a photo of ")
    assert (second.id, second.prompt) == ("7", None)


def test_rows_of_the_same_image_are_merged_in_order(tmp_path: Path) -> None:
    rows = [("b.jpg", "1"), ("a.jpg", "2"), ("./b.jpg", "3"), (str(tmp_path / "b.jpg"), "4")]
    lines = [json.dumps({"image": name, "caption": caption}) for name, caption in rows]
    samples = read(tmp_path, "\n".join(lines))
    assert [(sample.image, sample.captions) for sample in samples] == [
        (str(tmp_path / "b.jpg"), ("1", "3", "4")),
        (str(tmp_path / "a.jpg"), ("2",)),
    ]


def test_relative_paths_are_joined_to_the_image_root(tmp_path: Path) -> None:
    samples = read(tmp_path, '{"image": "a.jpg"}\n{"image": "/far/b.jpg"}\n', image_root="images")
    assert [sample.image for sample in samples] == ["images/a.jpg", "/far/b.jpg"]


def test_blank_captions_are_dropped_and_others_unchanged(tmp_path: Path) -> None:
    (sample,) = read(
        tmp_path, json.dumps({"image": "a.jpg", "captions": ["", " \t\n", " A dog.\n", "\u00a0"]})
    )
    assert sample.captions == (" A dog.\n",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_line_ends_and_blank_lines_are_ignored(
    tmp_path: Path, encoding: str
) -> None:
    text = (
        '\r\n{"image": "ảnh.jpg", "text": "một\u2028chú chó"}\r\n\r\n  \r\n{"image": "图.jpg"}\r\n'
    )
    samples = read(tmp_path, text.encode(encoding))
    assert [(Path(str(sample.image)).name, sample.captions) for sample in samples] == [
        ("ảnh.jpg", ("một\u2028chú chó",)),
        ("图.jpg", ()),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"image": "a.jpg"',
            "not JSON (Expecting ',' delimiter at column 18); correct or remove it",
        ),
        (
            "[1]",
            'a row must be a JSON object such as {"file_name": "a.jpg", "captions": ["a dog"]}',
        ),
        ('{"caption": "a dog"}', "the row names no image; give its path as `file_name`"),
        ('{"image": ""}', "the row names no image; give its path as `file_name`"),
        ('{"image": 3}', "the row names no image; give its path as `file_name`"),
        ('{"image": "a", "caption": 3}', "the caption 3 is not text; put it in quotes"),
        (
            '{"image": "a", "captions": ["b", {"raw": "c"}]}',
            "the caption {'raw': 'c'} is not text; put it in quotes",
        ),
        ('{"image": "a", "prompt": 1}', "the prompt is 1, which is not text; put it in quotes"),
        (
            '{"image": "a", "id": 1.5}',
            "the id 1.5 is neither text nor an integer; put it in quotes",
        ),
        (
            '{"image": "a", "id": true}',
            "the id True is neither text nor an integer; put it in quotes",
        ),
    ],
)
def test_an_invalid_line_is_named_in_the_error(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, '{"image": "fine.jpg"}\n\n' + row + "\n")
    assert str(caught.value) == f"{tmp_path / 'data.jsonl'}, line 3: {message}"


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("row", ["[" * 100_000, '{"image": ' + "1" * 5000 + "}"])
def test_too_deep_or_too_long_json_is_named_in_the_error(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl, line 1: not JSON that can be parsed"):
        read(tmp_path, row)


names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda s: s.strip("."))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    rows=st.lists(st.tuples(names, st.lists(texts, max_size=3)), min_size=1, max_size=6),
    ascii=st.booleans(),
)
def test_any_rows_are_read_back(
    tmp_path: Path, rows: list[tuple[str, list[str]]], ascii: bool
) -> None:
    text = "\n".join(
        json.dumps({"image": name, "captions": captions}, ensure_ascii=ascii)
        for name, captions in rows
    )
    expected: dict[str, list[str]] = {}
    for name, captions in rows:
        expected.setdefault(str(tmp_path / name), []).extend(
            caption for caption in captions if caption.strip()
        )
    assert {sample.image: list(sample.captions) for sample in read(tmp_path, text)} == expected


@pytest.mark.parametrize(
    ("name", "num_train", "num_val"),
    [("coco-mini", 300, 70), ("ucm-captions", 1134, 126), ("vi-captions", 500, 100)],
)
def test_the_shared_datasets_are_complete(
    shared: Path, name: str, num_train: int, num_val: int
) -> None:
    for split, count in (("train", num_train), ("val", num_val)):
        samples = open_data(shared / "data" / name / f"{split}.jsonl")
        assert len(samples) == count
        assert all(Path(str(sample.image)).is_file() and sample.captions for sample in samples)
