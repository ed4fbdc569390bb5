"""Open and resize images in the background, before they are needed."""

import os
import queue
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Self, TypeAlias, TypeVar

from torch import Tensor

from cutline.background import BackgroundReader
from cutline.errors import ImageError, WorkerError
from cutline.image.limits import MAX_PIXELS
from cutline.image.open import ImageSource, hold_image
from cutline.image.pool import ProcessPool
from cutline.image.resize import to_pixels

T = TypeVar("T")
_Opened: TypeAlias = list[Tensor] | ImageError
"""pixels of an image in one or two sizes, or the error"""


def prefetch_images(
    pairs: Iterable[tuple[ImageSource, T]], image_size: int, max_prefetch: int, num_workers: int = 0
) -> Generator[tuple[Tensor | ImageError, T]]:
    """Yield images as pixels, in order; they are read in the background.

    Args:
        pairs: Images, each with an object that is yielded with it.
        image_size: Side of the resized images, in pixels.
        max_prefetch: Number of images that are read ahead.
        num_workers: Processes that read images; 0 for threads of this process.

    Yields:
        uint8 pixels (3, image_size, image_size), or the error if the image cannot be read, with the
        image's object.
    """
    with ImagePrefetcher(pairs, image_size, max_prefetch, num_workers) as prefetcher:
        while images := prefetcher.take(1, wait=True):
            prefetcher.release()
            yield images[0].pixels, images[0].item
        prefetcher.raise_error()


@dataclass(frozen=True)
class OpenedImage(Generic[T]):
    """An image, resized."""

    index: int
    """its number in the input"""
    pixels: Tensor | ImageError
    """uint8 pixels (3, S, S), or the error if it cannot be read"""
    item: T
    """the object that came with it"""
    second_pixels: Tensor | None = None
    """uint8 pixels (3, S', S'), if a second size was asked for"""


@dataclass(frozen=True)
class _End:
    """The end of the input."""

    num_images: int
    error: BaseException | None


class ImagePrefetcher(Generic[T]):
    """Reads an iterable in a thread of its own, and opens its images in other threads or processes.

    Threads decode and resize without holding the global interpreter lock.

    Attributes:
        max_taken: Number of images that are taken from the iterable beyond those released.
        in_order: Whether images are returned in the order of the input.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[ImageSource, T]],
        image_size: int,
        max_taken: int,
        num_workers: int = 0,
        in_order: bool = True,
        max_wait: float | None = None,
        second_size: int | None = None,
    ) -> None:
        """Start reading.

        Args:
            pairs: Images, each with an object that is returned with it.
            image_size: S, the side of the resized images, in pixels.
            max_taken: Number of images that are taken from `pairs` beyond those released.
            num_workers: Processes that open images; 0 for threads of this process.
            in_order: Whether to return images in the order of the input, else as they are opened.
            max_wait: Seconds to wait for an image before the order is given up; None for no limit.
            second_size: S', if images are wanted in two sizes.
        """
        self.max_taken, self.in_order = max_taken, in_order
        self._sizes = (image_size,) if second_size is None else (image_size, second_size)
        self._max_wait = max_wait
        self._pool = start_pool(num_workers)
        self._queue: queue.SimpleQueue[OpenedImage[T] | _End | WorkerError] = queue.SimpleQueue()
        self._opened: dict[int, OpenedImage[T]] = {}  # those that have not been returned
        self._num_submitted = self._num_returned = 0
        self._end: _End | None = None
        self._reader = BackgroundReader(
            pairs, max_taken, self._submit, self._finish, "cutline-prefetch"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        # Threads are not joined: one may be blocked by a file that cannot be read.
        self._pool.shutdown(wait=isinstance(self._pool, ProcessPool), cancel_futures=True)

    @property
    def exhausted(self) -> bool:
        """Return whether the input has ended and all images have been returned."""
        return self._end is not None and self._num_returned == self._end.num_images

    def take(self, count: int, wait: bool) -> list[OpenedImage[T]]:
        """Return up to `count` opened images.

        Args:
            count: The largest number of images.
            wait: Whether to wait: in the order of the input for all of them, so that the result
                does not depend on timing; else for one. Without it, only those that have been
                opened are returned.
        """
        images: list[OpenedImage[T]] = []
        while len(images) < count:
            image = self._next(wait and (self.in_order or not images))
            if image is None:
                break
            images.append(image)
        return images

    def release(self) -> None:
        """Let one more image be taken from the input."""
        self._reader.release()

    def raise_error(self) -> None:
        """Raise the error of the iterable, if it raised one."""
        if self._end is not None and self._end.error is not None:
            raise self._end.error

    def _next(self, wait: bool) -> OpenedImage[T] | None:
        while not self.exhausted:
            index = self._num_returned if self.in_order else next(iter(self._opened), -1)
            if index in self._opened:
                self._num_returned += 1
                return self._opened.pop(index)
            try:
                message = self._queue.get(wait, self._max_wait if self.in_order else None)
            except queue.Empty:
                self.in_order &= not wait
                return None
            if isinstance(message, WorkerError):
                raise message
            if isinstance(message, _End):
                self._end = message
            else:
                self._opened[message.index] = message
        return None

    def _submit(self, pair: tuple[ImageSource, T]) -> None:
        source, item = pair
        future = self._pool.submit(read_sizes, source, self._sizes)
        self._return_later(future, self._num_submitted, item)
        self._num_submitted += 1

    def _finish(self, error: BaseException | None) -> None:
        self._queue.put(_End(self._num_submitted, error))

    def _return_later(self, future: "Future[_Opened]", index: int, item: T) -> None:
        def put(future: "Future[_Opened]") -> None:
            if future.cancelled():
                return
            error = future.exception()
            if isinstance(error, WorkerError):
                self._queue.put(error)
                return
            opened = describe_failure(f"image {index}", error) if error else future.result()
            if isinstance(opened, ImageError):
                self._queue.put(OpenedImage(index, opened, item))
            else:
                self._queue.put(OpenedImage(index, opened[0], item, *opened[1:]))

        future.add_done_callback(put)


def start_pool(num_workers: int) -> Executor:
    """Start worker processes, or threads if `num_workers` is 0."""
    if not num_workers:
        return ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2)))
    return ProcessPool(num_workers)


def read_pixels(
    source: ImageSource, image_size: int, max_pixels: int = MAX_PIXELS
) -> Tensor | ImageError:
    """Return the pixels (3, image_size, image_size) of an image, or the error."""
    opened = read_sizes(source, (image_size,), max_pixels)
    return opened if isinstance(opened, ImageError) else opened[0]


def read_sizes(source: ImageSource, sizes: Sequence[int], max_pixels: int = MAX_PIXELS) -> _Opened:
    """Return the pixels of an image in several sizes, or the error."""
    try:
        with hold_image(source, max_pixels) as image:
            return [to_pixels(image, size) for size in sizes]
    except ImageError as error:
        return error


def describe_failure(name: str, error: BaseException) -> ImageError:
    """Return the error of an image that failed to open for another reason than its contents."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(
        f"{name}: cannot be opened ({reason}); check memory and num_workers, and try again"
    )
