"""Read an iterable in a thread of its own, so that it may block without holding up others."""

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

CLOSE_TIMEOUT = 0.1  # seconds to wait for the thread, which the iterable may block


class BackgroundReader(Generic[T]):
    """Reads an iterable in the background, a bounded number of items ahead."""

    def __init__(
        self,
        items: Iterable[T],
        max_taken: int,
        receive: Callable[[T], None],
        end: Callable[[BaseException | None], None],
        name: str,
    ) -> None:
        """Start reading.

        Args:
            items: The iterable.
            max_taken: Number of items that are read beyond those released.
            receive: Called with each item, in the thread that reads.
            end: Called after the last item, with the error that reading or `receive` raised.
            name: Name of the thread.
        """
        self._items, self._receive, self._end = items, receive, end
        # Unlike a semaphore, this queue is written in C: a signal that raises within `put` cannot
        # leave a lock taken, on which `close` would wait forever.
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(max_taken):
            self._permits.put(None)
        self._closed = False
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let one more item be read."""
        self._permits.put(None)

    def close(self) -> None:
        """Read no more, and wait for the thread unless the iterable blocks it."""
        self._closed = True
        self._permits.put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            iterator = iter(self._items)
            while True:
                self._permits.get()
                if self._closed:
                    break
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                self._receive(item)
        except BaseException as raised:  # for the thread that takes the items to raise
            error = raised
        self._end(error)
