"""A small matcher in a folder, photos, and the commands that index and search them."""

from pathlib import Path

import pytest
from random_captioner import write_images
from random_matcher import make_matcher, save_matcher

from cutline.matcher import Matcher
from cutline.retrieval import IndexSummary, build_index


@pytest.fixture(scope="session")
def matcher() -> Matcher:
    """Return a matcher with random weights."""
    return make_matcher()


@pytest.fixture(scope="session")
def matcher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same matcher in a folder."""
    folder = tmp_path_factory.mktemp("retrieval") / "matcher"
    save_matcher(folder)
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return images, which tests copy."""
    return write_images(tmp_path_factory.mktemp("retrieval") / "scenes", 24)


@pytest.fixture
def photos(scenes: list[Path], tmp_path: Path) -> Path:
    """Return a folder with a dozen images, two of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, path in enumerate(scenes[:12]):
        (folder / ("sub" if number >= 10 else "") / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def indexed(photos: Path, matcher_folder: Path) -> IndexSummary:
    """Return what came of indexing the photos."""
    return build_index(photos, matcher_folder, precision="fp32")


@pytest.fixture(scope="session")
def other_matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return another matcher in a folder."""
    folder = tmp_path_factory.mktemp("retrieval") / "other"
    save_matcher(folder, image_size=48)
    return folder
