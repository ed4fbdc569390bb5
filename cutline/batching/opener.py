"""`ImageOpener`: opens the images of requests in the background."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from cutline.batching.request import Request
from cutline.errors import ImageError
from cutline.image import ImageSource, describe_failure, read_pixels

NUM_THREADS = 8  # some may wait for a disk or a network

Opened = Tensor | ImageError
"""pixels (3, S, S), or why there are none"""


class ImageOpener:
    """Opens the images of requests in threads."""

    def __init__(self, max_pixels: int) -> None:
        """Start without threads; each starts when it is needed.

        Args:
            max_pixels: Limit on width times height of an image.
        """
        self._max_pixels = max_pixels
        self._pool = ThreadPoolExecutor(NUM_THREADS, "cutline-open")
        self._opening: dict[Request[Any], Future[Opened]] = {}

    def open(
        self,
        request: Request[Any],
        image: ImageSource,
        image_size: int,
        receive: Callable[[Request[Any], Opened], None],
    ) -> None:
        """Open the image of a request; `receive` is called in a thread, unless it is cancelled."""
        opening = self._pool.submit(read_pixels, image, image_size, self._max_pixels)
        self._opening[request] = opening

        def finish(opened: Future[Opened]) -> None:
            if not opened.cancelled():
                error = opened.exception()
                failure = describe_failure(request.name, error) if error else None
                receive(request, failure or opened.result())

        opening.add_done_callback(finish)

    def cancel(self, request: Request[Any]) -> None:
        """Do not open the image of a request, if that has not begun; forget the request."""
        opening = self._opening.pop(request, None)
        if opening is not None:
            opening.cancel()

    def close(self) -> None:
        """Start no more threads; those that run may be blocked by a file that cannot be read."""
        self._pool.shutdown(wait=False, cancel_futures=True)
