"""Memory that the threads of a process share."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """A number of bytes; who asks for more than are free waits, first come, first served.

    Attributes:
        size: The number of bytes.
    """

    def __init__(self, size: int) -> None:
        """Start with all bytes free."""
        self.size = size
        self._reset()
        if hasattr(os, "register_at_fork"):  # no other thread of the parent goes on in the child
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._free = self.size
        self._queue, self._changed = threading.Lock(), threading.Condition()

    @contextmanager
    def reserve(self, num_bytes: int) -> Iterator[None]:
        """Wait until `num_bytes`, at most `size`, are free, and hold them until the block ends."""
        with self._queue, self._changed:
            self._changed.wait_for(lambda: num_bytes <= self._free)
            self._free -= num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free += num_bytes
                self._changed.notify()
