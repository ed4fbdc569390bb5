"""Fixtures shared by all tests."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # one test process per core; before anything imports torch

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile(
    "cutline", deadline=None
)  # how long an example takes is the machine's affair
settings.load_profile("cutline")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers and photographs; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CUTLINE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "fixtures").is_dir():
        pytest.skip(
            f"no shared fixtures at {folder}: set CUTLINE_SHARED to run the golden-number tests"
        )
    return folder
