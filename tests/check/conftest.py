"""A dataset without problems."""

from pathlib import Path

import pytest
from photos import make_photo

from cutline.data import Sample


@pytest.fixture
def clean(tmp_path: Path) -> list[Sample]:
    """Eight images without problems."""
    for number in range(8):
        make_photo(number).save(tmp_path / f"{number}.png")
    return [
        Sample(
            str(tmp_path / f"{n}.png"), (f"a photo of thing {n}", f"thing {n}, seen again"), str(n)
        )
        for n in range(8)
    ]
