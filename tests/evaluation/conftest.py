"""A dataset of drawn scenes, and caption files of it."""

import json
from pathlib import Path

import pytest
from caption_rows import Rows, Write

from cutline.data import write_captions
from cutline.demo.scenes import make_scenes, write_scenes


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data file of twelve drawn scenes with captions."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(12, seed=5))


@pytest.fixture
def rows(references: Path) -> Rows:
    """Return a row of a caption file for each scene, with a correct caption."""
    return [
        {"image": str(references.parent / row["file_name"]), "caption": row["captions"][0]}
        for row in map(json.loads, references.read_text().splitlines())
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a caption file in `tmp_path`."""

    def write_rows(name: str, rows: Rows) -> Path:
        write_captions(tmp_path / name, rows)
        return tmp_path / name

    return write_rows
