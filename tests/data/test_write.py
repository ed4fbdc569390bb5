"""Caption files: written completely or not at all, and read back unchanged."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutline.data import check_output, open_data, write_captions
from cutline.data.write import list_sidecars
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


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


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
    write_captions(tmp_path / "out", [])
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
    for path in (tmp_path / "file" / "out.jsonl", tmp_path / "file" / "out.csv", tmp_path / "file"):
        message = r"file.*: cannot be written \(.*\); check the folder and its permissions"
        with pytest.raises(DataError, match=message):
            write_captions(path, ROWS)


# ----------------------------------------------------------------------------------------- sidecars


def test_captions_beside_the_images_are_read_back(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "s/b.png", "s/b.jpg")
    rows = [
        {"image": sample.image, "caption": f"a {sample.id}\n in \u2028bed "}
        for sample in open_data(tmp_path)
    ]
    write_captions(".txt", rows)
    assert [(sample.id, sample.captions) for sample in open_data(tmp_path)] == [
        ("a.jpg", ("a a.jpg in bed",)),
        ("s/b.jpg", ("a s/b.jpg in bed",)),
        ("s/b.png", ("a s/b.png in bed",)),
    ]
    assert (tmp_path / "a.txt").is_file()
    assert (tmp_path / "s/b.png.txt").is_file()


def test_captions_are_written_to_a_folder(tmp_path: Path) -> None:
    names = ("a.jpg", "b.jpg")
    fill(tmp_path / "images", *names)
    rows = [{"image": str(tmp_path / "images" / name), "caption": name} for name in names]
    write_captions(tmp_path / "out", rows)
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "a.txt": "a.jpg\n",
        "b.txt": "b.jpg\n",
    }


def test_sidecars_in_a_folder_keep_subfolders() -> None:
    sidecars = list_sidecars(["p/a.jpg", "p/q/../s/b.jpg"], Path("out"))
    assert sidecars == [Path("out/a.txt"), Path("out/s/b.txt")]
    sidecars = list_sidecars(["/x/1.jpg", "/y/1.jpg"], Path("out"))
    assert sidecars == [Path("out/x/1.txt"), Path("out/y/1.txt")]


def test_sidecars_that_would_clash_keep_the_extension() -> None:
    sidecars = list_sidecars(["a.jpg", "a.png", "b.png"])
    assert sidecars == [Path("a.jpg.txt"), Path("a.png.txt"), Path("b.txt")]
    assert list_sidecars(["a.jpg", "a.jpg"]) == [Path("a.txt"), Path("a.txt")]
    assert list_sidecars(["odd.txt"]) == [Path("odd.txt.txt")]  # must not overwrite the image


names = st.lists(
    st.text(st.sampled_from("ab.txj"), min_size=1, max_size=7).filter(lambda name: name.strip(".")),
    unique=True,
)


@given(names)
def test_sidecars_are_distinct_and_overwrite_no_image(images: list[str]) -> None:
    targets = list_sidecars(images)
    assert len(set(targets)) == len(images)
    assert not {str(target) for target in targets} & set(images) or any(
        f"{image}.txt" in images for image in images
    )


# ------------------------------------------------------------------------------------------ outputs


def test_the_kind_of_output_follows_from_the_path(tmp_path: Path) -> None:
    assert check_output("a.jsonl") == "jsonl"
    assert check_output("A.CSV") == "csv"
    assert check_output(".txt") == "sidecars"
    assert check_output("captions") == check_output("captions.v2/") == "folder"
    (tmp_path / "is.parquet").mkdir()
    assert check_output(tmp_path / "is.parquet") == "folder"


@pytest.mark.parametrize("suffix", [".parquet", ".txt", ".json"])
def test_other_outputs_are_refused_before_rows_are_read(tmp_path: Path, suffix: str) -> None:
    def rows():
        pytest.fail("read")
        yield

    with pytest.raises(ConfigError) as caught:
        write_captions(tmp_path / f"out{suffix}", rows())
    fix = "give a .jsonl or .csv file, a folder, or `.txt` for a file beside each image"
    path = tmp_path / f"out{suffix}"
    assert str(caught.value) == f"{path}: captions cannot be written to a {suffix} file; {fix}"
