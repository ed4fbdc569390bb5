"""Small copies of images."""

from pathlib import Path

import pytest
from PIL import Image

from cutline.errors import ImageError
from cutline.image import open_thumbnail


@pytest.mark.parametrize(
    ("size", "small"), [((1000, 500), (100, 50)), ((30, 200), (15, 100)), ((40, 30), (40, 30))]
)
def test_the_longer_side_is_reduced(
    tmp_path: Path, size: tuple[int, int], small: tuple[int, int]
) -> None:
    picture = Image.new("RGB", size, "red")
    picture.save(tmp_path / "a.png")
    assert (
        open_thumbnail(tmp_path / "a.png", 100).size == open_thumbnail(picture, 100).size == small
    )
    assert picture.size == size


def test_what_is_no_picture_is_told() -> None:
    with pytest.raises(ImageError, match="no such image"):
        open_thumbnail("/gone.png", 100)
