"""What is named on the command line, as one stream of samples with unique ids."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cutline.bulk.inputs import open_collection
from cutline.bulk.output import Output
from cutline.config import DataSource, SourceConfig, UrlPolicy
from cutline.data import Sample
from cutline.errors import CutlineError, DataError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def open_samples(paths: Sequence[str]) -> list[Sample]:
    """Return the samples of a collection; an error in it is raised."""
    samples = []
    collection = open_collection(paths, SourceConfig(), DataSource(""), UrlPolicy())
    for item in collection.iter_samples(Output()):
        if isinstance(item, CutlineError):
            raise item
        samples.append(item)
    return samples


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the paths of the images, without those whose ids are repeated."""
    images: dict[str, str] = {}
    for sample in open_samples(paths):
        images.setdefault(sample.id, str(sample.image))
    return list(images.values())


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


def test_files_are_taken_in_the_order_given(photos: Path) -> None:
    assert find_images(["p/9.jpg", "p/odd.dat", "p/[1].jpg", "p/10.jpg"]) == [
        "p/9.jpg",
        "p/odd.dat",
        "p/[1].jpg",
        "p/10.jpg",
    ]


def test_folders_are_listed_in_natural_order(photos: Path) -> None:
    images = ["p/9.jpg", "p/10.jpg", "p/[1].jpg", "p/s/1.PNG", "p/ảnh.webp"]
    assert find_images(["p"]) == images
    assert find_images(["p/"]) == images
    assert find_images([str(photos / "p")]) == [str(photos / name) for name in images]


def test_patterns_are_expanded(photos: Path) -> None:
    assert find_images(["p/*.jpg"]) == ["p/9.jpg", "p/10.jpg", "p/[1].jpg"]
    assert find_images(["p/**/*.PNG"]) == ["p/s/1.PNG"]
    assert find_images(["[op]"]) == find_images(["p"])  # a pattern may match folders
    assert find_images([str(photos / "p/?.jpg")]) == [str(photos / "p/9.jpg")]
    assert "p/notes.txt" not in find_images(["p/*"])


def test_each_image_is_listed_once(photos: Path) -> None:
    assert find_images(["p/10.jpg", "./p/10.jpg", "p/*.jpg", "p"])[:3] == [
        "p/10.jpg",
        "p/9.jpg",
        "p/[1].jpg",
    ]
    assert len(find_images(["p", "./p", "p/*"])) == 5


def test_a_path_without_images_is_refused(photos: Path) -> None:
    for path in ("p/no.jpg", "q", "p/*.gif", "", "a" * 10_000, "a\0b"):
        with pytest.raises(DataError, match="no images found; give image files, folders that"):
            find_images([path])
        # Among others, it is an error in the stream.
        collection = open_collection(["p", path], SourceConfig(), DataSource(""), UrlPolicy())
        items = list(collection.iter_samples(Output()))
        assert [type(item) for item in items] == [*[Sample] * 5, DataError]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_file_names_need_not_be_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).touch()
    (name,) = find_images([str(tmp_path)])
    assert Path(name).is_file()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser can read every folder"
)
def test_an_unreadable_folder_is_named_in_the_error(tmp_path: Path) -> None:
    fill(tmp_path, "locked/a.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(
            DataError, match=r"locked: the folder cannot be read \(Permission denied\)"
        ):
            find_images([str(tmp_path)])
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_patterns_follow_links_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "a/.hidden/3.jpg", "a/[x]/4.jpg")
    expected = find_images([f"{tmp_path}/**/*.jpg"])
    assert len(expected) == 3
    for link in ("a/up", "a/up2", "b/up"):
        (tmp_path / link).symlink_to(tmp_path)
    assert find_images([f"{tmp_path}/**/*.jpg"]) == expected
    (tmp_path / "c").symlink_to(tmp_path / "b")
    assert len(find_images([f"{tmp_path}/**/*.jpg"])) == 4


def test_pipes_and_devices_are_named_as_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(DataError, match="a pipe or a device, not an image file; give -"):
            find_images([path])


def test_ids_are_paths_below_the_folder_of_all_sources(photos: Path) -> None:
    fill(photos, "other/9.jpg")
    for paths, ids in (
        (["p/9.jpg"], ["9.jpg"]),
        (["p"], ["9.jpg", "10.jpg", "[1].jpg", "s/1.PNG", "ảnh.webp"]),
        (["p/s", "other"], ["p/s/1.PNG", "other/9.jpg"]),
        (["p/**/1.PNG"], ["s/1.PNG"]),
        (["p/9.jpg", "other/9.jpg"], ["p/9.jpg", "other/9.jpg"]),
        ([str(photos / "p/s"), "other"], ["p/s/1.PNG", "other/9.jpg"]),
    ):
        assert [sample.id for sample in open_samples(paths)] == ids


def test_the_name_of_a_source_does_not_depend_on_the_files_that_a_shell_names(
    photos: Path,
) -> None:
    def describe(*paths: str) -> object:
        collection = open_collection(paths, SourceConfig(), DataSource(""), UrlPolicy())
        return collection.describe(photos / "out.state")

    assert describe("p/9.jpg") == describe("p/9.jpg", "p/10.jpg") == {"source": ["files in ../p"]}
    assert describe("p") == describe(str(photos / "p")) != describe("p/*.jpg")
