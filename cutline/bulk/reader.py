"""Samples that a thread of its own reads, so that one that is late does not hold up results."""

import queue
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from typing import Self

from cutline.background import BackgroundReader
from cutline.data import Sample


class SampleReader:
    """Reads an iterator of samples in the background, a bounded number ahead.

    Attributes:
        arrivals: What `multiprocessing.connection.wait` waits for until `take` has something.
        ended: Whether `take` has returned None, after the last sample.
    """

    def __init__(self, samples: Iterator[Sample], max_taken: int) -> None:
        """Start reading.

        Args:
            samples: The samples.
            max_taken: Number of samples that are read beyond those released.
        """
        self.ended = False
        self.arrivals, self._signal = Pipe(duplex=False)
        self._error: BaseException | None = None
        self._queue: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
        self._reader = BackgroundReader(
            samples, max_taken, self._put, self._finish, "cutline-samples"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.arrivals.close()
        self._reader.close()

    def take(self) -> Sample | None:
        """Return the next sample, or None after the last one."""
        self.arrivals.recv_bytes()
        sample = self._queue.get()
        self.ended = sample is None
        return sample

    def release(self) -> None:
        """Let one more sample be read."""
        self._reader.release()

    def raise_error(self) -> None:
        """Raise the error of the iterator, if it raised one."""
        if self._error is not None:
            raise self._error

    def _finish(self, error: BaseException | None) -> None:
        self._error = error
        self._put(None)

    def _put(self, sample: Sample | None) -> None:
        self._queue.put(sample)
        with suppress(OSError):  # the reader has been closed
            self._signal.send_bytes(b".")
