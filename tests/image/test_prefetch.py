"""Images that are read in the background."""

import itertools
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from deadly import DeadlyImage
from PIL import Image
from torch import Tensor

from cutline.errors import ImageError
from cutline.files import ImageRef
from cutline.image import (
    ImagePrefetcher,
    ImageSource,
    open_image,
    prefetch_images,
    to_pixels,
)

needs_sigkill = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


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


def test_images_in_two_sizes(files: list[ImageSource]) -> None:
    with ImagePrefetcher(zip(files, itertools.count()), 16, 9, second_size=24) as prefetcher:
        images = prefetcher.take(9, wait=True)
    for image, file in zip(images, files, strict=True):
        if isinstance(image.pixels, ImageError):
            assert image.second_pixels is None
            continue
        assert image.second_pixels is not None
        assert torch.equal(image.pixels, to_pixels(open_image(file), 16))
        assert torch.equal(image.second_pixels, to_pixels(open_image(file), 24))


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


def test_images_and_bytes_are_sent_to_a_process(files: list[ImageSource]) -> None:
    """One that cannot be sent is an error."""

    class Local(DeadlyImage):
        """Cannot be pickled."""

    image = Image.new("RGB", (40, 30), (1, 2, 3))
    data = Path(str(files[0])).read_bytes()
    pairs = [(image, 0), (data, 1), (Local(), 2), (files[0], 3)]
    results = [pixels for pixels, _ in prefetch_images(pairs, 16, 2, num_workers=1)]
    assert [isinstance(pixels, Tensor) for pixels in results] == [True, True, False, True]
    assert torch.equal(results[0], to_pixels(open_image(image), 16))
    assert torch.equal(results[1], results[3])


class Gate:
    """An iterable of images whose end waits for `open`."""

    def __init__(self, files: list[ImageSource]) -> None:
        self.files, self.open, self.num_taken = files, threading.Event(), 0

    def __iter__(self) -> Iterator[tuple[ImageSource, int]]:
        for number, file in enumerate(self.files[:2]):
            self.num_taken += 1
            yield file, number
        self.open.wait(60)
        raise OSError("broken")


def test_opened_images_are_returned_while_the_iterable_blocks(files: list[ImageSource]) -> None:
    gate = Gate(files)
    with ImagePrefetcher(gate, 16, 5, in_order=False) as prefetcher:
        images = prefetcher.take(1, wait=True) + prefetcher.take(1, wait=True)
        assert {image.index for image in images} == {0, 1}
        assert prefetcher.take(3, wait=False) == []
        assert not prefetcher.exhausted
        prefetcher.raise_error()  # none yet
        gate.open.set()
        assert prefetcher.take(3, wait=True) == []
        assert prefetcher.exhausted
        with pytest.raises(OSError, match="broken"):
            prefetcher.raise_error()


def test_a_blocked_iterable_does_not_keep_the_prefetcher_open(files: list[ImageSource]) -> None:
    gate = Gate(files)
    with ImagePrefetcher(gate, 16, 5, in_order=False) as prefetcher:
        prefetcher.take(2, wait=True)
    gate.open.set()


def test_no_more_images_are_taken_than_released(files: list[ImageSource]) -> None:
    with ImagePrefetcher(zip(files, itertools.count()), 16, max_taken=3) as prefetcher:
        assert [image.index for image in prefetcher.take(3, wait=True)] == [0, 1, 2]
        assert prefetcher.take(1, wait=False) == []
        prefetcher.release()
        assert [image.index for image in prefetcher.take(1, wait=True)] == [3]


@pytest.mark.slow
@needs_sigkill
def test_an_image_that_kills_processes_is_an_error(files: list[ImageSource]) -> None:
    """It is opened again, beside others that are not blamed."""
    sources = [*files[:3], DeadlyImage(), *files[3:]]
    images = prefetch_images(zip(sources, itertools.count()), 16, 10, num_workers=2)
    results = [pixels for pixels, _ in images]
    assert str(results.pop(3)).startswith(
        "image 3: cannot be opened (the process that opened it was killed by SIGKILL, perhaps for "
        "lack of memory)"
    )
    assert [isinstance(pixels, Tensor) for pixels in results] == [n != 2 for n in range(9)]


@pytest.mark.slow
@needs_sigkill
def test_processes_may_be_killed_at_any_time(files: list[ImageSource]) -> None:
    kills = itertools.cycle([True, *[False] * 19])
    pairs = zip(files * 3, itertools.count())
    numbers = []
    for pixels, number in prefetch_images(pairs, 16, 10, num_workers=2):
        if next(kills):
            multiprocessing.active_children()[0].kill()
        assert isinstance(pixels, Tensor) == (number % 9 != 2)
        numbers.append(number)
    assert numbers == list(range(27))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_processes_that_cannot_start_are_an_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from cutline.image import prefetch_images\n"
        "list(prefetch_images([('a.png', 0)], 16, 2, num_workers=1))\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert result.returncode == 1
    assert 'below `if __name__ == "__main__":`' in result.stderr  # says the new process
    assert result.stderr.splitlines()[-1] == (
        "cutline.errors.WorkerError: a process that opens images ended with exit code 1 before it "
        "was ready, perhaps for lack of memory: lower num_workers"
    )


def test_the_order_is_given_up_for_an_image_that_takes_long(files: list[ImageSource]) -> None:
    class Late(ImageRef):
        released = threading.Event()

        def read(self) -> bytes:
            self.released.wait(60)
            return Path(str(files[0])).read_bytes()

    pairs = [(files[0], 0), (Late(), 1), (files[1], 2)]
    with ImagePrefetcher(pairs, 16, 5, in_order=True, max_wait=0.1) as prefetcher:
        assert [image.index for image in prefetcher.take(3, wait=True)] == [0]
        assert not prefetcher.in_order
        assert [image.index for image in prefetcher.take(3, wait=True)] == [2]
        Late.released.set()
        assert [image.index for image in prefetcher.take(3, wait=True)] == [1]
