"""The index on disk: what is nearest, and files that are damaged."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_files import new_info, random_embeddings, write_index

from cutline.errors import DataError
from cutline.retrieval import image_index
from cutline.retrieval.entry import IndexedImage
from cutline.retrieval.image_index import ImageIndex, find_largest, open_image_index
from cutline.retrieval.info import locate_index

any_text = st.text(st.characters())  # surrogates included


@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, np.nan]), max_size=30),
    st.integers(1, 40),
)
def test_the_largest_values_come_first_and_of_equal_ones_the_first(
    values: list[float], k: int
) -> None:
    expected = sorted(
        range(len(values)), key=lambda row: -(-np.inf if np.isnan(values[row]) else values[row])
    )
    assert find_largest(np.array(values, np.float32), k).tolist() == expected[:k]


@pytest.mark.parametrize("count", [1, 7, 64, 65, 1000])
def test_the_nearest_are_those_of_a_full_sort(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_index, "CHUNK_ROWS", 64)
    embeddings = random_embeddings(count, 32)
    index = write_index(tmp_path / "index", embeddings)
    for seed, k in [(1, 1), (2, 5), (3, count), (4, count + 9)]:
        (question,) = random_embeddings(1, 32, seed)
        cosines = embeddings.astype(np.float64) @ question
        found = index.nearest(question, k)
        assert len(found) == min(k, count)
        assert [row for row, _ in found] == np.argsort(-cosines).tolist()[:k]
        np.testing.assert_allclose([score for _, score in found], -np.sort(-cosines)[:k], atol=1e-6)


def test_an_index_without_images_finds_none(tmp_path: Path) -> None:
    index = write_index(tmp_path / "index", np.empty((0, 8), np.float32))
    assert len(index) == 0
    assert index.nearest(np.empty(0, np.float32), 5) == []


@given(any_text, any_text, st.booleans())
def test_any_name_can_be_kept(name: str, stamp: str, is_file: bool) -> None:
    image = IndexedImage(name, stamp, is_file)
    line = image.to_json()
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert IndexedImage.from_json(line) == image


def test_odd_names_of_files_are_kept(tmp_path: Path) -> None:
    names = ["a\nb.png", os.fsdecode(b"\xff.png"), "ä ü.png", "“.png", "\u2028.png"]
    index = write_index(tmp_path / "index", random_embeddings(5, 4), names)
    assert [image.name for image in index.images()] == names


@pytest.mark.parametrize("line", [b"", b"1", b"[]", b"{}", b'{"path": 1, "stamp": ""}', b"\xff"])
def test_a_damaged_line_is_reported(tmp_path: Path, line: bytes) -> None:
    index = write_index(tmp_path / "index", random_embeddings(2, 4))
    (path,) = index.folder.glob("images-*")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(line.ljust(len(first) - 1) + b"\n" + second)
    index = ImageIndex(index.folder)
    assert index.image(1).name == "1.png"
    with pytest.raises(DataError, match=r"images-.*damaged.*--new-index"):
        index.image(0)


@pytest.mark.parametrize("pattern", ["embeddings-*", "images-*"])
@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "missing", "other"])
def test_a_damaged_file_is_named(tmp_path: Path, pattern: str, damage: str) -> None:
    index = write_index(tmp_path / "index", random_embeddings(20, 4))
    (path,) = index.folder.glob(pattern)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "longer" and pattern == "embeddings-*":
        np.save(path, random_embeddings(21, 4))
    else:
        path.write_bytes(
            {"cut": data[:-5], "longer": data + b"\n", "empty": b"", "other": data[::-1]}[damage]
        )
    if damage == "other" and pattern == "images-*":
        with pytest.raises(DataError, match=r"damaged"):
            list(ImageIndex(index.folder).images())
        return
    with pytest.raises(DataError, match=rf"{path.name}: missing, truncated or damaged.*--new"):
        open_image_index(index.folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "1",
        "{" * 100_000,
        '{"version": 1}',
        '{"version": 1, "number": "x"}',
        '{"version": true, "matcher": 1}',
        "\x00",
    ],
)
def test_a_damaged_index_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"index\.json: damaged; .*--new-index"):
        open_image_index(tmp_path)


def test_an_index_of_a_later_version_is_refused(tmp_path: Path) -> None:
    new_info().write(tmp_path)
    path = tmp_path / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "more": 1}))
    with pytest.raises(DataError, match="later version of cutline; update cutline"):
        open_image_index(tmp_path)


def test_an_unfinished_index_is_refused(tmp_path: Path) -> None:
    new_info().write(tmp_path)
    with pytest.raises(DataError, match="not finished"):
        open_image_index(tmp_path)


def test_an_index_is_found_in_its_folder_and_beside_the_photos(tmp_path: Path) -> None:
    index = tmp_path / ".cutline" / "index"
    index.mkdir(parents=True)
    new_info().write(index)
    assert locate_index(tmp_path) == locate_index(index) == index
    with pytest.raises(DataError, match=r"has no index; make one with `cutline index "):
        locate_index(index.parent)
    with pytest.raises(DataError, match=r"no such folder"):
        locate_index(tmp_path / "nowhere")


def test_an_index_can_be_opened_while_it_is_replaced(tmp_path: Path) -> None:
    """A reader sees the former one or the next, never a mixture of both."""
    folder = tmp_path / "index"
    sizes = (10, 20)
    write_index(folder, random_embeddings(10, 4))
    stop = threading.Event()

    def replace_again_and_again() -> None:
        while not stop.is_set():
            for size in sizes:
                write_index(folder, random_embeddings(size, 4))

    thread = threading.Thread(target=replace_again_and_again)
    thread.start()
    try:
        for _ in range(50):
            index = open_image_index(folder)
            assert len(index) in sizes
            assert len(list(index.images())) == len(index.embeddings) == len(index)
    finally:
        stop.set()
        thread.join()
