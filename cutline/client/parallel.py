"""Run a function on several threads, and stop at the first error."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

MAX_WAIT = 5.0
"""seconds to wait for items in progress after an error"""

T = TypeVar("T")
R = TypeVar("R")


def map_parallel(function: Callable[[T], R], items: Sequence[T], num_threads: int) -> list[R]:
    """Return the results of a function for all items, in order.

    After an error, or Ctrl-C, no further item is taken. After an error, those in progress are
    waited for, but not long; after Ctrl-C, their threads end by themselves, or with the process.
    """
    results: dict[int, R] = {}
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    remaining = _Remaining(enumerate(items))

    def work() -> None:
        try:
            for index, item in remaining:
                results[index] = function(item)
        except BaseException as error:  # raised again in the thread that waits
            ended.put(error)
        else:
            ended.put(None)

    threads = [
        threading.Thread(target=work, name="cutline-client", daemon=True)
        for _ in range(min(num_threads, len(items)))
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            if error := ended.get():
                raise error
    except Exception:
        remaining.close()
        end = time.monotonic() + MAX_WAIT
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join(max(0.0, end - time.monotonic()))
        raise
    finally:
        remaining.close()
    return [results[index] for index in range(len(items))]


class _Remaining(Iterator[T]):
    """Items that several threads take."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items, self._lock, self._closed = items, threading.Lock(), False

    def __next__(self) -> T:
        with self._lock:
            if self._closed:
                raise StopIteration
            return next(self._items)

    def close(self) -> None:
        self._closed = True
