"""Folders are walked through lazily, in the order in which all their images would be sorted."""

import os
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.data.names import is_image, list_sidecar_names, natural_sort_key
from cutline.data.tolerant import raise_errors
from cutline.data.walk import ImageFile, IndexFile, scan_images, walk_images
from cutline.errors import DataError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def list_images(folder: Path) -> list[str]:
    found = raise_errors(walk_images(folder))
    return [file.path for file in found if isinstance(file, ImageFile)]


def slow_key(path: str) -> tuple[object, ...]:
    """Return a key of lists of texts and numbers, which defines the order."""
    parts = [
        [
            int(text) if i % 2 else text
            for i, text in enumerate(re.split(r"(\d{1,1000})", part.casefold()))
        ]
        for part in Path(path).parts
    ]
    return (parts, path)


NAMES = st.text(st.sampled_from("aAbß019٣²-. \udcff"), min_size=1, max_size=5)


@settings(max_examples=200)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12))
def test_the_key_orders_names_by_their_texts_and_numbers(paths: list[str]) -> None:
    assert sorted(paths, key=natural_sort_key) == sorted(paths, key=slow_key)


def test_numbers_of_any_length_are_ordered() -> None:
    names = ["0" * 900 + "7", "8", "9" * 1000, "9" * 1000 + "1", "1" + "0" * 3000, "1" * 4000]
    for first in names:
        for second in names:
            is_smaller = natural_sort_key(first) < natural_sort_key(second)
            assert is_smaller == (slow_key(first) < slow_key(second))


PARTS = st.sampled_from(["a", "A", "b", "1", "01", "2", "10", "a1", "a-1", "a 1", ".h", "x.jpg"])
FILES = st.sampled_from(["a.jpg", "A.jpg", "01.png", "1.png", "2.PNG", "10.png", "a.txt", ".b.jpg"])
TREES = st.lists(st.tuples(st.lists(PARTS, max_size=3), FILES), max_size=25)


@settings(max_examples=60)
@given(tree=TREES)
def test_images_are_found_in_the_order_of_all_their_paths(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[list[str], str]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for parts, name in tree:
        fill(folder, "/".join([*parts, name]))
    expected = [
        os.path.join(root, name)  # noqa: PTH118
        for root, _, names in os.walk(folder)
        for name in names
        if is_image(name) and "/.h" not in root.removeprefix(str(folder))
    ]
    assert list_images(folder) == sorted(expected, key=slow_key)
    assert sorted(scan_images(folder)) == sorted(expected)
    flat = [path for path in expected if Path(path).parent == folder]
    assert sorted(scan_images(folder, recursive=False)) == sorted(flat)
    walked = walk_images(folder, recursive=False)
    assert [found.path for found in walked if isinstance(found, ImageFile)] == sorted(
        flat, key=slow_key
    )


def test_names_of_images_are_recognized() -> None:
    for name in ("a.jpg", "a.b.JPEG", "é.webp", " .png", "p/a.tif", ".h/a.jpg"):
        assert is_image(name)
    for name in ("jpg", ".jpg", "._a.jpg", "a.jpg.txt", "a.", "", "a", "p.jpg/a", "p/.a.jpg"):
        assert not is_image(name)
    assert list_sidecar_names("a.b.jpg") == [
        "a.b.jpg.txt",
        "a.b.txt",
        "a.b.jpg.caption",
        "a.b.caption",
    ]


def test_a_list_comes_before_the_images_of_its_folder(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "a.txt", "s/captions.jsonl", "s/metadata.csv", "s/b.jpg", "s/t/c.jpg")
    (tmp_path / "s/metadata.jsonl").mkdir()
    assert list(walk_images(tmp_path)) == [
        ImageFile(str(tmp_path / "a.jpg"), str(tmp_path / "a.txt")),
        IndexFile(str(tmp_path / "s/metadata.csv")),
        ImageFile(str(tmp_path / "s/b.jpg"), ""),
        ImageFile(str(tmp_path / "s/t/c.jpg"), ""),
    ]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, "p/a.jpg", "q/b.jpg")
    (tmp_path / "p/q").symlink_to(tmp_path / "q")
    (tmp_path / "p/up").symlink_to(tmp_path)
    (tmp_path / "p/loop.jpg").symlink_to(tmp_path / "p/loop.jpg")
    (tmp_path / "p/b.jpg").symlink_to(tmp_path / "q/b.jpg")
    names = ["a.jpg", "b.jpg", "loop.jpg"]
    assert list_images(tmp_path / "p") == [str(tmp_path / "p" / name) for name in names]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser can read every folder"
)
def test_a_subfolder_that_cannot_be_read_is_an_error_among_the_images(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b/b.jpg", "c.jpg")
    (tmp_path / "b").chmod(0)
    try:
        first, error, last = walk_images(tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)
    assert (first.path, last.path) == (str(tmp_path / "a.jpg"), str(tmp_path / "c.jpg"))
    assert str(error) == (
        f"{tmp_path}/b: the folder cannot be read (Permission denied); check its permissions"
    )


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no: the folder cannot be read \(No such file"):
        list(walk_images(tmp_path / "no"))
    assert list(scan_images(tmp_path / "no")) == []


@pytest.mark.slow
def test_a_folder_of_many_images_needs_little_memory(tmp_path: Path) -> None:
    for number in range(100_000):
        (tmp_path / f"image-{number:06d}.jpg").touch()
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk_images(tmp_path)) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
