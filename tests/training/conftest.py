"""A data set and a recipe so small that a run takes a second."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_recipe import tiny_recipe

from cutline.config import Recipe
from cutline.data.scenes import make_scenes, write_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawn scenes with captions."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(20, seed=3), size=32)


@pytest.fixture
def recipe(scenes: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """Builds a recipe; see `tiny_recipe`."""
    return functools.partial(_build, scenes, tmp_path / "run")


def _build(scenes: Path, output: Path, **changes: object) -> Recipe:
    return tiny_recipe(scenes, Path(str(changes.pop("output", output))), **changes)
