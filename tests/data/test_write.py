"""Caption files: whole or not at all, and read back as written."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutline.data import check_output, open_data, write_captions
from cutline.data.write import sidecars
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


# -------------------------------------------------------------------------------------------------------------- tables


def test_json_lines(tmp_path: Path) -> None:
    write_captions(tmp_path / "new" / "out.jsonl", iter(ROWS))
    text = (tmp_path / "new" / "out.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == ROWS
    assert "một chú chó" in text


def test_csv(tmp_path: Path) -> None:
    write_captions(tmp_path / "out.CSV", ROWS)
    with (tmp_path / "out.CSV").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "caption", "score", "alternatives"]
    assert [row["caption"] for row in rows] == [row["caption"] for row in ROWS]
    assert [float(row["score"]) for row in rows] == [-1.25, -0.5]
    assert (rows[0]["alternatives"], json.loads(rows[1]["alternatives"])) == (
        "",
        ROWS[1]["alternatives"],
    )


def test_nothing_to_write(tmp_path: Path) -> None:
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
def test_any_text_comes_back(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    write_captions(tmp_path / "out.jsonl", rows)
    assert [
        json.loads(line)
        for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    ] == rows
    write_captions(tmp_path / "out.csv", rows)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [{**row, "score": float(row["score"])} for row in csv.DictReader(file)] == rows


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_captions(tmp_path / "out.jsonl", [{"image": "caf\udce9.jpg", "caption": "x"}])
    assert (
        json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["image"] == "caf\udce9.jpg"
    )
    write_captions(tmp_path / "out.csv", [{"image": "caf\udce9.jpg", "caption": "x"}])
    assert r'"caf\udce9.jpg","x"' in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_paths_are_written_as_text(tmp_path: Path) -> None:
    write_captions(tmp_path / "out.jsonl", [{"image": Path("a.jpg"), "caption": "x"}])
    assert json.loads((tmp_path / "out.jsonl").read_text())["image"] == "a.jpg"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_an_error_half_way_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    def failing():  # type: ignore[no-untyped-def]
        yield ROWS[0]
        raise KeyboardInterrupt

    (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_captions(tmp_path / name, failing())
    with pytest.raises(TypeError):
        write_captions(
            tmp_path / name,
            [ROWS[0], {"image": "b.jpg", "caption": "x", "alternatives": [object()]}],
        )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "out.jsonl", tmp_path / "file" / "out.csv", tmp_path / "file"):
        with pytest.raises(
            DataError,
            match=r"file.*: cannot be written \(.*\); check the folder and its permissions",
        ):
            write_captions(path, ROWS)


# ------------------------------------------------------------------------------------------------------------ sidecars


def test_captions_beside_the_pictures_are_read_back(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "s/b.png", "s/b.jpg")
    rows = [
        {"image": sample.image, "caption": f"a {sample.id}\n of \u2028mine "}
        for sample in open_data(tmp_path)
    ]
    write_captions(".txt", rows)
    assert [(sample.id, sample.captions) for sample in open_data(tmp_path)] == [
        ("a.jpg", ("a a.jpg of mine",)),
        ("s/b.jpg", ("a s/b.jpg of mine",)),
        ("s/b.png", ("a s/b.png of mine",)),
    ]
    assert (tmp_path / "a.txt").is_file()
    assert (tmp_path / "s/b.png.txt").is_file()


def test_captions_in_a_folder(tmp_path: Path) -> None:
    pictures = tmp_path / "images"
    fill(pictures, "a.jpg", "b.jpg")
    write_captions(
        tmp_path / "out",
        [{"image": str(pictures / name), "caption": name} for name in ("a.jpg", "b.jpg")],
    )
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "a.txt": "a.jpg\n",
        "b.txt": "b.jpg\n",
    }


def test_subfolders_are_kept() -> None:
    assert sidecars(["p/a.jpg", "p/q/../s/b.jpg"], Path("out")) == [
        Path("out/a.txt"),
        Path("out/s/b.txt"),
    ]
    assert sidecars(["/x/1.jpg", "/y/1.jpg"], Path("out")) == [
        Path("out/x/1.txt"),
        Path("out/y/1.txt"),
    ]


def test_names_that_would_clash() -> None:
    assert sidecars(["a.jpg", "a.png", "b.png"]) == [
        Path("a.jpg.txt"),
        Path("a.png.txt"),
        Path("b.txt"),
    ]
    assert sidecars(["a.jpg", "a.jpg"]) == [Path("a.txt"), Path("a.txt")]
    assert sidecars(["odd.txt"]) == [Path("odd.txt.txt")]  # never over the image


names = st.lists(
    st.text(st.sampled_from("ab.txj"), min_size=1, max_size=7).filter(lambda name: name.strip(".")),
    unique=True,
)


@given(names)
def test_sidecars_are_distinct_and_no_pictures(images: list[str]) -> None:
    targets = sidecars(images)
    assert len(set(targets)) == len(images)
    assert not {str(target) for target in targets} & set(images) or any(
        f"{image}.txt" in images for image in images
    )


# ------------------------------------------------------------------------------------------------------------ outputs


def test_what_will_be_written_is_known_beforehand(tmp_path: Path) -> None:
    assert check_output("a.jsonl") == "jsonl"
    assert check_output("A.CSV") == "csv"
    assert check_output(".txt") == "beside"
    assert check_output("captions") == check_output("captions.v2/") == "folder"
    (tmp_path / "is.parquet").mkdir()
    assert check_output(tmp_path / "is.parquet") == "folder"


@pytest.mark.parametrize("name", ["out.parquet", "out.txt", "out.json"])
def test_other_outputs_are_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    def rows():  # type: ignore[no-untyped-def]
        pytest.fail("read")
        yield

    with pytest.raises(ConfigError) as caught:
        write_captions(tmp_path / name, rows())
    form = "captions go to a .jsonl or .csv file, to a folder, or to a file beside each image (`.txt`); name one of these"
    assert str(caught.value) == f"{tmp_path / name}: {form}"
