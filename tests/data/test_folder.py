"""Folders of images with text files beside them."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cutline.data import Sample, open_data
from cutline.data.find import match_paths
from cutline.data.names import natural_sort_key
from cutline.errors import CutlineError, DataError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_are_read_with_their_sidecars(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "10.jpg",
        "2.JPEG",
        "sub/deep/ảnh.png",
        "notes.txt",
        "readme.md",
        ".hidden.jpg",
        ".cache/a.jpg",
        "._2.jpg",
    )
    (tmp_path / "10.txt").write_bytes("\ufeffa dog\r\n\r\n  \n a cat \u2028 here\t\r\nmột".encode())
    (tmp_path / "sub/deep/ảnh.txt").touch()
    assert open_data(tmp_path) == [
        Sample(str(tmp_path / "2.JPEG"), (), "2.JPEG"),
        Sample(str(tmp_path / "10.jpg"), ("a dog", "a cat \u2028 here", "một"), "10.jpg"),
        Sample(str(tmp_path / "sub/deep/ảnh.png"), (), "sub/deep/ảnh.png"),
    ]


def test_ids_do_not_depend_on_how_the_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a/1.jpg")
    monkeypatch.chdir(tmp_path)
    for folder in (".", "a", "a/", "./a/", str(tmp_path)):
        (sample,) = open_data(folder)
        assert sample.id == ("1.jpg" if "a" in Path(folder).name[:1] else "a/1.jpg")
        assert Path(str(sample.image)).is_file()


def test_a_sidecar_of_one_image_takes_precedence_over_a_shared_one(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "a.png")
    (tmp_path / "a.txt").write_text("both")
    (tmp_path / "a.png.txt").write_text("one")
    assert [sample.captions for sample in open_data(tmp_path)] == [("both",), ("one",)]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path)
    message = f"{tmp_path}: contains no images; give JSON Lines (.jsonl), COCO"
    assert str(caught.value).startswith(message)


def test_a_sidecar_in_another_encoding_is_named_in_the_error(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"a\.txt, line 1: not UTF-8 text; save the file as UTF-8"):
        open_data(tmp_path)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_sort_by_value(numbers: list[int]) -> None:
    assert sorted((f"x{n}.jpg" for n in numbers), key=natural_sort_key) == [
        f"x{n}.jpg" for n in sorted(numbers)
    ]


@given(st.lists(st.text(st.sampled_from("aB1٣²/.-"), max_size=6)))
def test_any_names_can_be_sorted_from_any_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(backwards, key=natural_sort_key) == sorted(names, key=natural_sort_key)


def test_files_of_a_folder_stay_together() -> None:
    assert (
        natural_sort_key("a/2.jpg") < natural_sort_key("a/10.jpg") < natural_sort_key("a-b/1.jpg")
    )
    assert natural_sort_key("a/z.jpg") < natural_sort_key("B/a.jpg")


def test_kohyas_sidecars_are_captions(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "1.caption").write_text("one")
    (tmp_path / "2.jpg.caption").write_text("two")
    (tmp_path / "3.caption").write_text("no")
    (tmp_path / "3.txt").write_text("three")
    captions = [sample.captions for sample in open_data(tmp_path)]
    assert captions == [("one",), ("two",), ("three",)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_fifos_and_devices_are_reported_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to("/dev/zero")
    (tmp_path / "d.jpg").symlink_to("missing")  # reported when it is opened
    assert [sample.id for sample in open_data(tmp_path)] == ["a.jpg", "d.jpg"]
    for name in "bc":
        assert f"{tmp_path}/{name}.jpg: skipped, because it is not a regular file" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_data_files_are_regular_files(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / name)
    (tmp_path / f"link-{name}").symlink_to("/dev/zero")
    for file in (name, f"link-{name}"):
        with pytest.raises(DataError, match="not a regular file"):
            open_data(tmp_path / file)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["**", "*", "a", "b", "[ab]", "x.jpg", "*.jpg"]), max_size=4))
def test_patterns_match_what_glob_matches(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    assume(not any("jpg" in part for part in parts[:-1]))  # nothing is below a file
    folder = tmp_path_factory.getbasetemp() / "tree"
    if not folder.exists():
        fill(folder, "x.jpg", "a/x.jpg", "a/b/y.jpg", "b/a/b/x.jpg", "b/.h/x.jpg")
        (folder / "a/loop").symlink_to("loop")
    pattern = "/".join([str(folder), *parts])
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207
    expected = set(map(os.path.normpath, found))
    actual = {os.path.normpath(path) for path in match_paths(pattern)}
    assert {path for path in expected if path.endswith("jpg")} == {
        path for path in actual if path.endswith("jpg")
    }


def test_names_that_are_too_long_or_invalid_are_missing_files() -> None:
    for path in ("a" * 10_000, "a\0b", "a\0b.jsonl", "a" * 300 + ".csv"):
        with pytest.raises(CutlineError, match=r"no such file or folder|without NUL characters"):
            open_data(path)
