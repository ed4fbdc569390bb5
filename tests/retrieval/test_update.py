"""Updates of an index: what is kept, what is replaced, and what a killed one leaves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_files import new_info, random_embeddings, read_index, write_index

from cutline.errors import DataError
from cutline.retrieval.entry import IndexedImage
from cutline.retrieval.image_index import ImageIndex
from cutline.retrieval.info import read_index_info
from cutline.retrieval.update import IndexUpdate, check_only_index, find_parts, part_path

NAMES = "abcdef"
Images = dict[str, int]  # the version of each


def embed(name: str, version: int) -> np.ndarray:
    """Return what stands for the embedding of an image."""
    return np.array([ord(name), version, 1], np.float32)


def update_images(folder: Path, images: Images, commits: int = 0, finish: bool = True) -> int:
    """Update an index; return how many images were embedded."""
    update = IndexUpdate(folder, read_index_info(folder))
    count = 0
    for name, version in images.items():
        image = IndexedImage(name, str(version))
        if not update.knows(image):
            update.add(image, embed(name, version))
            count += 1
            if commits and count % commits == 0:
                update.commit()
    if finish:
        update.commit()
        update.finish(images)
    return count


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.permutations(NAMES).flatmap(
                lambda names: st.lists(
                    st.integers(0, 2), max_size=len(NAMES), min_size=len(NAMES)
                ).map(lambda versions: {n: v for n, v in zip(names, versions, strict=True) if v})
            ),
            st.integers(0, 3),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_an_updated_index_is_that_of_the_images_alone(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Images, int, bool]]
) -> None:
    """Whatever was added, changed and removed before, and wherever updates were stopped."""
    folder = tmp_path_factory.mktemp("update")
    new_info().write(folder)
    for images, commits, finish in [*steps, ({"a": 1, "c": 2}, 0, True)]:
        update_images(folder, images, commits, finish)
        if finish:
            expected = {name: embed(name, version).tolist() for name, version in images.items()}
            assert read_index(folder) == expected
            assert list(read_index(folder)) == list(images)
            assert update_images(folder, images) == 0
            number = read_index_info(folder).number
            names = {"index.json", f"embeddings-{number:08}.npy", f"images-{number:08}.jsonl"}
            assert {path.name for path in folder.iterdir()} == names


def test_a_stopped_update_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    index = write_index(tmp_path, random_embeddings(3, 3))
    before = read_index(tmp_path)
    update_images(tmp_path, {"a": 1, "b": 1, "c": 1}, commits=1, finish=False)
    assert read_index(tmp_path) == before
    assert len(find_parts(tmp_path)) == 3
    assert read_index_info(tmp_path) == index.info
    assert update_images(tmp_path, {"a": 1, "b": 2, "c": 1}) == 1


def test_nothing_is_written_if_nothing_has_changed(tmp_path: Path) -> None:
    write_index(tmp_path, random_embeddings(3, 3), "abc")
    path = next(tmp_path.glob("*.npy"))
    time = path.stat().st_mtime_ns
    update = IndexUpdate(tmp_path, read_index_info(tmp_path))
    assert update.finish("abc").number == 1
    assert path.stat().st_mtime_ns == time


@pytest.mark.parametrize("damage", [b"", b"PK\3\4", None])
def test_a_damaged_part_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    new_info().write(tmp_path)
    images = dict.fromkeys(NAMES, 1)
    update_images(tmp_path, images, commits=2, finish=False)
    path = part_path(tmp_path, 2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert update_images(tmp_path, images) == 2
    assert list(read_index(tmp_path)) == list(images)


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    write_index(tmp_path, random_embeddings(3, 3), "abc")
    for name in ("embeddings-00000002.npy", "images-00000002.jsonl", "embeddings-00000007.npy"):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / f".{name}.123.tmp").write_bytes(b"torn")
    (tmp_path / ".part-00000001.npz.7.tmp").write_bytes(b"torn")
    update_images(tmp_path, {"a": 1, "b": 1})
    assert list(read_index(tmp_path)) == ["a", "b"]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "index.json",
        "embeddings-00000002.npy",
        "images-00000002.jsonl",
        ".embeddings-00000007.npy.123.tmp",
    }


def test_an_index_can_become_empty_and_grow_again(tmp_path: Path) -> None:
    new_info().write(tmp_path)
    update_images(tmp_path, {"a": 1})
    update_images(tmp_path, {})
    assert len(ImageIndex(tmp_path)) == 0
    assert ImageIndex(tmp_path).embeddings.shape == (0, 3)
    update_images(tmp_path, {"b": 1})
    assert list(read_index(tmp_path)) == ["b"]


def test_a_search_that_is_open_keeps_its_index(tmp_path: Path) -> None:
    index = write_index(tmp_path, random_embeddings(30, 3))
    before = np.array(index.embeddings)
    write_index(tmp_path, random_embeddings(30, 3, seed=1))
    assert (index.embeddings == before).all()


def test_a_folder_with_other_files_is_not_taken_for_an_index(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "part-00000001.npz").touch()
    check_only_index(tmp_path)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(DataError, match="not an index; name a new folder with -o"):
        check_only_index(tmp_path)
