"""Reading caption files."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cutline
from cutline.data import write_captions
from cutline.evaluation.caption_file import CaptionRow, read_captions

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "a.txt: captions must be in a .jsonl or .csv file"),
        ("a.jsonl", "\n", "a.jsonl: contains no captions"),
        ("a.jsonl", '{"image": "a.jpg", "caption": "a dog"}\n{', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", "[]", "a.jsonl, line 1: a row must be a JSON object"),
        (
            "a.jsonl",
            '{"image": "a.jpg"}',
            "a.jsonl, line 1: a row needs the path of its image in `image` and text in `caption`",
        ),
        ("a.jsonl", '{"image": "a.jpg", "captions": ["a", "b"]}', "and text in `caption`"),
        ("a.csv", "image,words\na.jpg,a dog\n", "a.csv, line 2: a row needs"),
        ("a.csv", "", "a.csv: contains no captions"),
    ],
)
def test_invalid_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(cutline.DataError, match=message) as error:
        read_captions(tmp_path / name)
    assert "\n" not in str(error.value)


@given(
    st.lists(st.tuples(TEXTS.filter(bool), TEXTS.filter(bool)), min_size=1, max_size=4),
    st.sampled_from([".jsonl", ".csv"]),
)
def test_written_captions_are_read(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"captions{suffix}"
    rows = [{"image": image, "caption": caption, "score": 0.5} for image, caption in pairs]
    write_captions(path, rows)
    assert [(row.image, row.caption) for row in read_captions(path)] == pairs


def test_ids_and_other_columns(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        header = ["caption", "cider", "image_id", "file_name"]
        csv.writer(file).writerows([header, ["a dog", 1.5, 17, "a.jpg"]])
    (tmp_path / "a.jsonl").write_text(
        '{"file_name": "a.jpg", "captions": ["a dog"], "image_id": 17}'
    )
    expected = [CaptionRow("a.jpg", "a dog", "17")]
    assert read_captions(tmp_path / "a.csv") == read_captions(tmp_path / "a.jsonl") == expected
