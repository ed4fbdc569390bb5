"""Open and resize images in the background, before they are asked for."""

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
    pairs: Iterable[tuple[ImageSource, T]], size: int, ahead: int, workers: int = 0
) -> Generator[tuple[Tensor | ImageError, T]]:
    """Images as uint8 pixels (3, size, size), or the ImageError of one that cannot be read, in order, each with its companion.

    Args:
        pairs: images and what goes with them.
        size: pixels each way.
        ahead: how many are read before they are asked for.
        workers: processes that read; 0 for threads of this process, which leave Python free while they decode and resize.
    """
    reading: deque[tuple[Future[Tensor | ImageError], T]] = deque()
    with start_pool(workers) as pool:
        try:
            for source, companion in pairs:
                reading.append((pool.submit(read, source, size), companion))
                if len(reading) > ahead:
                    future, companion = reading.popleft()
                    yield future.result(), companion
            while reading:
                future, companion = reading.popleft()
                yield future.result(), companion
        finally:
            for future, _ in reading:
                future.cancel()


def start_pool(workers: int) -> Executor:
    """Threads, or `workers` processes that leave Ctrl-C to this one."""
    if not workers:
        return ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2)))
    return ProcessPoolExecutor(
        workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )


def read(source: ImageSource, size: int) -> Tensor | ImageError:
    """One image, opened and resized."""
    try:
        return to_pixels(open_image(source), size)
    except ImageError as error:
        return error
