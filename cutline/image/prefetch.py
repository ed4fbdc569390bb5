"""Open and resize images in the background, before they are needed."""

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from torch import Tensor

from cutline.errors import ImageError
from cutline.image.open import ImageSource, open_image
from cutline.image.resize import to_pixels

T = TypeVar("T")


def prefetch_images(
    pairs: Iterable[tuple[ImageSource, T]], image_size: int, max_prefetch: int, num_workers: int = 0
) -> Generator[tuple[Tensor | ImageError, T]]:
    """Yield images as pixels, in order; they are read in the background.

    Args:
        pairs: Images, each with an object that is yielded with it.
        image_size: Side of the resized images, in pixels.
        max_prefetch: Number of images that are read ahead.
        num_workers: Processes that read images; 0 for threads of this process, which decode and
            resize without holding the global interpreter lock.

    Yields:
        uint8 pixels (3, image_size, image_size), or the error if the image cannot be read, with the
        image's object.
    """
    pending: deque[tuple[Future[Tensor | ImageError], T]] = deque()
    with start_pool(num_workers) as pool:
        try:
            for source, item in pairs:
                pending.append((pool.submit(_read_pixels, source, image_size), item))
                if len(pending) > max_prefetch:
                    future, first_item = pending.popleft()
                    yield future.result(), first_item
            while pending:
                future, item = pending.popleft()
                yield future.result(), item
        finally:
            for future, _ in pending:
                future.cancel()


def start_pool(num_workers: int) -> Executor:
    """Start worker processes, or threads if `num_workers` is 0.

    Processes ignore Ctrl-C, which the main process handles.
    """
    if not num_workers:
        return ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2)))
    return ProcessPoolExecutor(
        num_workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )


def _read_pixels(source: ImageSource, image_size: int) -> Tensor | ImageError:
    try:
        return to_pixels(open_image(source), image_size)
    except ImageError as error:
        return error
