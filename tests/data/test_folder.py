"""Folders of images with text files beside them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.data import Sample, open_data
from cutline.data.folder import natural_sort_key
from cutline.errors import DataError


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
