"""Reading caption files."""

import codecs
import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cutline
from cutline.data import write_captions, write_results
from cutline.evaluation.caption_file import CaptionRow, read_captions

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
RESULTS = [{"image_id": 17, "caption": "a dog"}, {"image_id": "18", "caption": "two “cats”"}]
ROWS = [CaptionRow("", "a dog", "17"), CaptionRow("", "two “cats”", "18")]
NEEDS = "a row needs the path of its image in `image` or its id in `image_id`, and text in `capt"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", ": captions must be in a .jsonl, .csv or .parquet file, or COCO results (.j"),
        ("a.jsonl", "\n", ": contains no captions"),
        ("a.jsonl", '{"image": "a.jpg", "caption": "a dog"}\n{', ", line 2: not JSON"),
        ("a.jsonl", "[]", ", line 1: a row must be a JSON object"),
        ("a.jsonl", '{"image": "a.jpg"}', f", line 1: {NEEDS}ion`; this one has image"),
        ("a.jsonl", '{"image": "a.jpg", "captions": ["a", "b"]}', ", line 1: has 2 captions of an"),
        (
            "a.csv",
            "image,words\na.jpg,a dog\n",
            f", line 2: {NEEDS}ion`; this one has image, words",
        ),
        ("a.csv", "", ": contains no captions"),
        ("a.json", "[]", ": contains no captions"),
        ("a.json", "3", ': not a list of captions such as [{"image_id": 42, "caption": "a dog"}]'),
        ("a.json", '{"image_id": 1, "caption": "a"}', ": not a list of captions such as"),
        ("a.json", '{"images": [], "annotations": []}', ": has images and their references"),
        ("a.json", '[{"image_id": 1, "caption": "a"}, 2]', ", row 2: a row must be a JSON object"),
        ("a.json", '[{"image_id": 1}]', f", row 1: {NEEDS}"),
        ("a.json", '[{"caption": "a dog"}]', f", row 1: {NEEDS}"),
        ("a.json", "[{}]", f", row 1: {NEEDS}ion`; this one has no columns"),
        ("a.json", '[{"image_id": 1, "caption": null}]', f", row 1: {NEEDS}"),
        ("a.json", '[{"image_id": 1, "caption": NaN}]', f", row 1: {NEEDS}"),
        ("a.json", '[{"image_id": NaN, "caption": "a"}]', ", row 1: the id nan is neither text"),
        ("a.json", '[{"image_id": true, "caption": "a"}]', ", row 1: the id True is neither text"),
        ("a.json", '[{"image_id": 1, "caption": ', ": not JSON"),
        ("a.json", '[{"image_id": 1, "image_id": 2}]', ": the key `image_id` occurs twice"),
    ],
)
def test_invalid_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(cutline.DataError) as error:
        read_captions(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}{message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet"])
def test_files_that_are_missing_or_no_text_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(cutline.DataError, match=r"cannot be read|can be read") as error:
        read_captions(path)
    assert str(error.value).startswith(str(path))
    path.write_bytes('[{"image_id": 1, "caption": "ein größerer Hund"}]'.encode("latin-1"))
    with pytest.raises(cutline.DataError, match=r"not UTF-8 text|not a Parquet file"):
        read_captions(path)


@given(
    st.lists(st.tuples(TEXTS.filter(bool), TEXTS.filter(bool)), min_size=1, max_size=4),
    st.sampled_from([".jsonl", ".csv", ".parquet"]),
)
def test_written_captions_are_read(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"captions{suffix}"
    rows = [{"image": image, "caption": caption, "score": 0.5} for image, caption in pairs]
    write_captions(path, rows)
    assert [(row.image, row.caption) for row in read_captions(path)] == pairs


@given(st.dictionaries(st.integers(-9, 10**12), TEXTS, min_size=1, max_size=4))
def test_written_results_are_read(
    tmp_path_factory: pytest.TempPathFactory, captions: dict[int, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "results.json"
    write_results(path, ({"image": "x", "id": str(id), "caption": captions[id]} for id in captions))
    assert {int(row.id): row.caption for row in read_captions(path)} == captions
    assert {row["image_id"]: row["caption"] for row in json.loads(path.read_bytes())} == captions


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_results_are_read(tmp_path: Path, mark: bytes) -> None:
    """Ids may be text, and there may be a byte-order mark, line ends, and other keys."""
    path = tmp_path / "results.json"
    for text in (json.dumps(RESULTS), json.dumps(RESULTS, ensure_ascii=False, indent=1)):
        path.write_bytes(mark + text.encode())
        assert read_captions(path) == ROWS
    path.write_text(json.dumps([{**row, "id": 3, "score": 0.5} for row in RESULTS]))
    assert read_captions(path) == ROWS


def test_ids_suffice_in_every_format(tmp_path: Path) -> None:
    rows = [{"image_id": row["image_id"], "caption": row["caption"]} for row in RESULTS]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["image_id", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    pa = pytest.importorskip("pyarrow")
    ids = [int(row["image_id"]) for row in rows]
    table = pa.table({"image_id": ids, "caption": [row["caption"] for row in rows]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    for suffix in (".jsonl", ".csv", ".parquet"):
        assert read_captions(tmp_path / f"a{suffix}") == ROWS


def test_json_lines_may_be_called_json(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "caption": "a dog"}
    (tmp_path / "a.json").write_text(f"{json.dumps(row)}\n" * 2)
    assert read_captions(tmp_path / "a.json") == [CaptionRow("a.jpg", "a dog")] * 2


def test_ids_and_other_columns(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        header = ["caption", "cider", "image_id", "file_name"]
        csv.writer(file).writerows([header, ["a dog", 1.5, 17, "a.jpg"]])
    (tmp_path / "a.jsonl").write_text(
        '{"file_name": "a.jpg", "captions": ["a dog"], "image_id": 17}'
    )
    expected = [CaptionRow("a.jpg", "a dog", "17")]
    assert read_captions(tmp_path / "a.csv") == read_captions(tmp_path / "a.jsonl") == expected


def test_empty_captions_are_captions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"image_id": 0, "caption": ""}]')
    (tmp_path / "a.csv").write_text("image_id,caption\n0,\n")
    for name in ("a.json", "a.csv"):
        assert read_captions(tmp_path / name) == [CaptionRow("", "", "0")]
