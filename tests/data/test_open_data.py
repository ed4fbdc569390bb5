"""Data sets are recognised; image arguments become files."""

import json
import os
import sys
from pathlib import Path

import pytest

from cutline.data import find_images, open_data
from cutline.errors import DataError

KNOWN = (
    "JSON Lines (.jsonl), COCO, BLIP, Karpathy or NoCaps captions (.json), tables (.csv, .tsv, .parquet), tar shards, "
    "or a folder of images with .txt files beside them"
)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def refusal(*arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        open_data(*arguments)  # type: ignore[arg-type]
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- data sets


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.jsonl"])
def test_a_folder_with_an_index(tmp_path: Path, name: str) -> None:
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
def test_hugging_face_s_imagefolder(tmp_path: Path, name: str) -> None:
    write_metadata(tmp_path / "whole", name)
    fill(tmp_path / "whole", "unnamed.jpg")
    whole = open_data(tmp_path / "whole")
    assert [(sample.image, sample.captions, sample.id) for sample in whole] == [
        (str(tmp_path / "whole/sub/a.jpg"), ("a dog",), "sub/a.jpg"),
        (str(tmp_path / "whole/b.jpg"), (), "b.jpg"),
    ]
    for part in ("train", "validation", "test"):
        write_metadata(tmp_path / "parts" / part, name)
    parts = open_data(tmp_path / "parts")
    assert [sample.id for sample in parts] == [
        f"{part}/{n}" for part in ("train", "validation", "test") for n in ("sub/a.jpg", "b.jpg")
    ]
    assert parts[3].image == str(tmp_path / "parts/validation/b.jpg")
    for split in ("validation", "val"):
        assert open_data(tmp_path / "parts", split=split) == open_data(
            tmp_path / "parts/validation"
        )
    assert (
        refusal(tmp_path / "parts", "", "dev2")
        == f"{tmp_path / 'parts'}: has no splits to take `dev2` from; leave the split out"
    )


def test_a_split_may_be_a_folder_of_pictures(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.jpg", "val/b.jpg", "loose.jpg")
    assert [sample.id for sample in open_data(tmp_path, split="train")] == ["a.jpg"]
    assert [sample.id for sample in open_data(tmp_path, split="validation")] == ["b.jpg"]
    assert [sample.id for sample in open_data(tmp_path)] == [
        "loose.jpg",
        "train/a.jpg",
        "val/b.jpg",
    ]


def test_the_first_index_counts(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"file_name": "b.jpg"}')
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg"}')
    assert [sample.id for sample in open_data(tmp_path)] == ["a.jpg"]


@pytest.mark.parametrize(
    "text", ['{"image": "a.jpg"}\n{"image": "b.jpg"}\n', '\n{"image": "a.jpg"}\n{"image": "b.jpg"}']
)
def test_json_lines_under_another_name(tmp_path: Path, text: str) -> None:
    for name in ("data.json", "data.ndjson", "data.JSONL"):
        (tmp_path / name).write_text(text)
        assert [sample.id for sample in open_data(str(tmp_path / name))] == ["a.jpg", "b.jpg"]


def test_json_over_many_lines(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(
        "\ufeff" + json.dumps([{"image": "a.jpg", "caption": "a"}], indent=1), encoding="utf-8"
    )
    assert [sample.captions for sample in open_data(tmp_path / "data.json")] == [("a",)]


def test_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"image": "a.jpg"},]')
    assert refusal(path).startswith(f"{path}: not JSON (")


def test_what_is_not_there(tmp_path: Path) -> None:
    assert (
        refusal("") == "no data are given; name a data file or a folder of images"
    )  # not the current folder
    assert (
        refusal(tmp_path / "no.jsonl")
        == f"{tmp_path / 'no.jsonl'}: no such file or folder; check the path"
    )


@pytest.mark.parametrize("name", ["a.xlsx", "a.jpg", "a.md", "a"])
def test_other_kinds_are_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name)
    assert refusal(tmp_path / name) == f"{tmp_path / name}: not a known kind of data; give {KNOWN}"


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
def test_empty_data(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert refusal(tmp_path / name) == f"{tmp_path / name}: holds no images; data are {KNOWN}"


def test_splits_are_for_karpathy_s_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.jpg"}')
    (tmp_path / "a.json").write_text('{"image": "a.jpg"}')
    for path in (tmp_path / "a.jsonl", tmp_path / "a.json", tmp_path):
        assert (
            refusal(path, "", "val")
            == f"{path}: has no splits to take `val` from; leave the split out"
        )


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text('{"image": "a.jpg"}')
    assert open_data("~/a.jsonl", "~/photos")[0].image == str(tmp_path / "photos/a.jpg")


def test_no_picture_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "nowhere/a.jpg"}')
    assert open_data(tmp_path / "a.jsonl")[0].image == str(tmp_path / "nowhere/a.jpg")


# ----------------------------------------------------------------------------------------------------------- images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(
        tmp_path,
        "p/10.jpg",
        "p/9.jpg",
        "p/s/1.PNG",
        "p/notes.txt",
        "p/.hidden.jpg",
        "p/[1].jpg",
        "p/ảnh.webp",
        "p/odd.dat",
        "empty/x.txt",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_are_taken_as_they_are(photos: Path) -> None:
    assert find_images(["p/9.jpg", "p/odd.dat", "p/[1].jpg", "p/10.jpg"]) == [
        "p/9.jpg",
        "p/odd.dat",
        "p/[1].jpg",
        "p/10.jpg",
    ]


def test_folders_are_searched_in_natural_order(photos: Path) -> None:
    everything = ["p/9.jpg", "p/10.jpg", "p/[1].jpg", "p/s/1.PNG", "p/ảnh.webp"]
    assert find_images(["p"]) == everything
    assert find_images(["p/"]) == everything
    assert find_images([str(photos / "p")]) == [str(photos / name) for name in everything]


def test_patterns(photos: Path) -> None:
    assert find_images(["p/*.jpg"]) == ["p/9.jpg", "p/10.jpg", "p/[1].jpg"]
    assert find_images(["p/**/*.PNG"]) == ["p/s/1.PNG"]
    assert find_images(["[op]"]) == find_images(["p"])  # a pattern may mean folders
    assert find_images([str(photos / "p/?.jpg")]) == [str(photos / "p/9.jpg")]
    assert "p/notes.txt" not in find_images(["p/*"])


def test_each_picture_comes_once(photos: Path) -> None:
    assert find_images(["p/10.jpg", "./p/10.jpg", "p/*.jpg", "p"])[:3] == [
        "p/10.jpg",
        "p/9.jpg",
        "p/[1].jpg",
    ]
    assert len(find_images(["p", "./p", "p/*"])) == 5


def test_a_path_that_means_nothing(photos: Path) -> None:
    for path in ("p/no.jpg", "q", "p/*.gif", "empty", ""):
        with pytest.raises(DataError) as caught:
            find_images(["p", path])
        advice = "give image files, folders that hold some, or patterns such as 'photos/*.jpg'"
        assert str(caught.value) == f"{path}: no image there; {advice}"


def test_no_paths_mean_no_pictures() -> None:
    assert find_images([]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).touch()
    (name,) = find_images([str(tmp_path)])
    assert Path(name).is_file()
    assert open_data(tmp_path)[0].image == name


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every folder"
)
def test_a_locked_folder_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "locked/a.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(
            DataError, match=r"locked: the folder cannot be read \(Permission denied\)"
        ):
            find_images([str(tmp_path)])
    finally:
        (tmp_path / "locked").chmod(0o700)
