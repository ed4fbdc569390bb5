"""Images read before they are asked for."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from cutline.errors import ImageError
from cutline.image import ImageSource, open_image, prefetch_images, to_pixels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[ImageSource]:
    """Nine images, of which the third is no image."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(9):
        Image.new("RGB", (20 + number, 30), (number * 20, 9, 9)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"no image")
    return [folder / f"{number}.png" for number in range(9)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ahead", [1, 4, 50])
def test_pictures_come_in_order_each_with_its_companion(
    files: list[ImageSource], workers: int, ahead: int
) -> None:
    if workers and ahead != 4:
        pytest.skip("processes take a while to start")
    read = list(prefetch_images(zip(files, itertools.count()), 16, ahead, workers))
    assert [number for _, number in read] == list(range(9))
    for (pixels, _), file in zip(read, files, strict=True):
        if isinstance(pixels, ImageError):
            assert str(pixels).startswith(str(file))
        else:
            assert torch.equal(pixels, to_pixels(open_image(file), 16))
    assert [isinstance(pixels, Tensor) for pixels, _ in read] == [
        number != 2 for number in range(9)
    ]


def test_no_more_are_read_than_asked(files: list[ImageSource]) -> None:
    taken = []

    def endless() -> Iterator[tuple[ImageSource, int]]:
        for number in itertools.count():
            taken.append(number)
            yield files[0], number

    reading = prefetch_images(endless(), 16, ahead=5)
    next(reading)
    next(reading)
    reading.close()  # and the threads end with it
    assert len(taken) == 7


def test_an_empty_list_is_no_picture() -> None:
    assert list(prefetch_images([], 16, ahead=3)) == []


def test_a_picture_goes_to_a_process_as_it_is(files: list[ImageSource]) -> None:
    image = Image.new("RGB", (40, 30), (1, 2, 3))
    data = Path(str(files[0])).read_bytes()
    read = [pixels for pixels, _ in prefetch_images([(image, 0), (data, 1)], 16, 2, workers=1)]
    assert isinstance(read[0], Tensor)
    assert torch.equal(read[0], to_pixels(open_image(image), 16))
