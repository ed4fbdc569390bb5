"""A data set with nothing wrong."""

from pathlib import Path

import pytest
from checked import photo

from cutline.data import Sample


@pytest.fixture
def clean(tmp_path: Path) -> list[Sample]:
    """Eight images with nothing wrong."""
    for number in range(8):
        photo(number).save(tmp_path / f"{number}.png")
    return [
        Sample(
            str(tmp_path / f"{n}.png"), (f"a photo of thing {n}", f"thing {n}, seen again"), str(n)
        )
        for n in range(8)
    ]
