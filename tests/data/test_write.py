"""Caption files: written completely or not at all, and read back unchanged."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutline.data import find_table_format, open_data, write_captions
from cutline.errors import ConfigError, DataError

ROWS = [
    {"image": "p/a.jpg", "caption": "a dog, “sitting”", "score": -1.25},
    {
        "image": "p/ảnh 2.png",
        "caption": "một chú chó",
        "score": -0.5,
        "alternatives": ["một chú chó", "chó"],
    },
]


# ------------------------------------------------------------------------------------------- tables


def test_json_lines_are_written(tmp_path: Path) -> None:
    write_captions(tmp_path / "new" / "out.jsonl", iter(ROWS))
    text = (tmp_path / "new" / "out.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == ROWS
    assert "một chú chó" in text


def test_csv_is_written(tmp_path: Path) -> None:
    write_captions(tmp_path / "out.CSV", ROWS)
    with (tmp_path / "out.CSV").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "caption", "score", "alternatives"]
    assert [row["caption"] for row in rows] == [row["caption"] for row in ROWS]
    assert [float(row["score"]) for row in rows] == [-1.25, -0.5]
    assert rows[0]["alternatives"] == ""
    assert json.loads(rows[1]["alternatives"]) == ROWS[1]["alternatives"]


def test_files_without_rows_are_written(tmp_path: Path) -> None:
    write_captions(tmp_path / "out.jsonl", [])
    write_captions(tmp_path / "out.csv", [])
    assert (tmp_path / "out.jsonl").read_text() == ""
    assert (tmp_path / "out.csv").read_text() == '"image","caption"\n'


captions = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"image": captions, "caption": captions, "score": st.floats(allow_nan=False)}
        ),
        max_size=4,
    )
)
def test_any_text_is_read_back(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    write_captions(tmp_path / "out.jsonl", rows)
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.split("\n")[:-1]] == rows
    write_captions(tmp_path / "out.csv", rows)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [{**row, "score": float(row["score"])} for row in csv.DictReader(file)] == rows


def test_file_names_need_not_be_utf8(tmp_path: Path) -> None:
    rows = [{"image": "caf\udce9.jpg", "caption": "x"}]
    write_captions(tmp_path / "out.jsonl", rows)
    assert [json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))] == rows
    write_captions(tmp_path / "out.csv", rows)
    assert r'"caf\udce9.jpg","x"' in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_paths_are_written_as_text(tmp_path: Path) -> None:
    write_captions(tmp_path / "out.jsonl", [{"image": Path("a.jpg"), "caption": "x"}])
    assert json.loads((tmp_path / "out.jsonl").read_text())["image"] == "a.jpg"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path, name: str) -> None:
    def failing():
        yield ROWS[0]
        raise KeyboardInterrupt

    (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_captions(tmp_path / name, failing())
    invalid = {"image": "b.jpg", "caption": "x", "alternatives": [object()]}
    with pytest.raises(TypeError):
        write_captions(tmp_path / name, [ROWS[0], invalid])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


def test_paths_that_cannot_be_written_are_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        path = tmp_path / "file" / name
        message = r"file.*: cannot be written \(.*\); check the folder"
        with pytest.raises(DataError, match=message):
            write_captions(path, ROWS)


def test_the_format_follows_from_the_name() -> None:
    assert find_table_format("a.jsonl") == "jsonl"
    assert find_table_format("A.CSV") == "csv"
    assert find_table_format(Path("a.parquet")) == "parquet"


@pytest.mark.parametrize("suffix", [".docx", ".txt", ".json"])
def test_other_outputs_are_refused_before_rows_are_read(tmp_path: Path, suffix: str) -> None:
    def rows():
        pytest.fail("read")
        yield

    path = tmp_path / f"out{suffix}"
    message = f"cannot be written to a {suffix} file; give a .jsonl, .csv or .parquet file"
    with pytest.raises(ConfigError, match=message):
        write_captions(path, rows())


def test_parquet_is_read_back(tmp_path: Path) -> None:
    rows = [
        {
            "image": str(tmp_path / f"{number}.jpg"),
            "id": str(number),
            "caption": "một chú chó",
            "score": -0.5,
            "alternatives": [{"caption": "a", "score": -1.0, "token_log_probs": [-0.5]}],
            "original_captions": ["x", "y"],
        }
        for number in range(25_000)
    ]
    path = tmp_path / "out.parquet"
    write_captions(path, iter(rows), list(rows[0]))
    assert pq.read_table(path).to_pylist() == rows
    samples = open_data(path)
    assert [(sample.id, sample.captions) for sample in samples[:1]] == [("0", ("một chú chó",))]
    write_captions(path, [], ["image", "caption"])
    assert pq.read_table(path).column_names == ["image", "caption"]


def test_names_of_files_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        write_captions(tmp_path / name, [{"image": "\udcff.jpg", "caption": "x"}])
    assert pq.read_table(tmp_path / "out.parquet")["image"][0].as_py() == "\\udcff.jpg"
