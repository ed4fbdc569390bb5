"""Images that are read in the background."""

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
    """Write nine image files, the third of which is invalid."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(9):
        Image.new("RGB", (20 + number, 30), (number * 20, 9, 9)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"not an image")
    return [folder / f"{number}.png" for number in range(9)]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("max_prefetch", [1, 4, 50])
def test_images_keep_their_order_and_their_items(
    files: list[ImageSource], num_workers: int, max_prefetch: int
) -> None:
    if num_workers and max_prefetch != 4:
        pytest.skip("starting processes takes long")
    images = prefetch_images(zip(files, itertools.count()), 16, max_prefetch, num_workers)
    results = list(images)
    assert [number for _, number in results] == list(range(9))
    for (pixels, _), file in zip(results, files, strict=True):
        if isinstance(pixels, ImageError):
            assert str(pixels).startswith(str(file))
        else:
            assert torch.equal(pixels, to_pixels(open_image(file), 16))
    is_valid = [isinstance(pixels, Tensor) for pixels, _ in results]
    assert is_valid == [number != 2 for number in range(9)]


def test_no_more_images_are_read_ahead_than_requested(files: list[ImageSource]) -> None:
    requested = []

    def endless_pairs() -> Iterator[tuple[ImageSource, int]]:
        for number in itertools.count():
            requested.append(number)
            yield files[0], number

    images = prefetch_images(endless_pairs(), 16, max_prefetch=5)
    next(images)
    next(images)
    images.close()  # also ends the threads
    assert len(requested) <= 7


def test_an_empty_list_gives_no_images() -> None:
    assert list(prefetch_images([], 16, max_prefetch=3)) == []


def test_images_and_bytes_are_sent_to_processes(files: list[ImageSource]) -> None:
    image = Image.new("RGB", (40, 30), (1, 2, 3))
    data = Path(str(files[0])).read_bytes()
    images = prefetch_images([(image, 0), (data, 1)], 16, 2, num_workers=1)
    results = [pixels for pixels, _ in images]
    assert isinstance(results[0], Tensor)
    assert torch.equal(results[0], to_pixels(open_image(image), 16))
