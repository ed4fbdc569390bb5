"""A dataset and a recipe so small that a run takes a second."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_recipe import tiny_recipe

from cutline.config import Recipe
from cutline.demo.scenes import make_scenes, write_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data file of twenty drawn scenes with captions."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(20, seed=3), size=32)


@pytest.fixture
def recipe(scenes: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Return a function that builds a recipe; see `tiny_recipe`."""
    return lambda **changes: tiny_recipe(scenes, **{"output": tmp_path / "run", **changes})
