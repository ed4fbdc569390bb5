"""Samples that are read in lists, as they come, and images that are fetched once for two models."""

import queue
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cutline.background import BackgroundReader
from cutline.data import Sample
from cutline.files import ImageRef


def batch_samples(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """Yield samples in lists: those that have come meanwhile, at least one, and at most `size`.

    They are read in a thread of its own, at most `size` beyond those that have been yielded.
    """
    received: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
    errors: list[BaseException | None] = []

    def finish(error: BaseException | None) -> None:
        errors.append(error)
        received.put(None)

    reader = BackgroundReader(samples, size, received.put, finish, "cutline-batches")
    try:
        while not errors or not received.empty():
            if batch := _take(received, size):
                for _ in batch:
                    reader.release()
                yield batch
        if errors[0]:
            raise errors[0]
    finally:
        reader.close()


def _take(received: "queue.SimpleQueue[Sample | None]", size: int) -> list[Sample]:
    """Wait for a sample, and return it with those that are there; none at the end."""
    batch: list[Sample] = []
    while len(batch) < size:
        try:
            sample = received.get(block=not batch)
        except queue.Empty:
            break
        if sample is None:
            break
        batch.append(sample)
    return batch


@dataclass(eq=False, slots=True)
class CachedImage(ImageRef):
    """An image elsewhere, whose bytes are kept from when they are read first."""

    image: ImageRef
    data: bytes = b""

    def __str__(self) -> str:
        return str(self.image)

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: It cannot be read.
        """
        self.data = self.data or self.image.read()
        return self.data

    def stamp(self) -> str:
        """Return what changes when the image does; empty if unknown."""
        return self.image.stamp()

    @classmethod
    def wrap(cls, sample: Sample) -> Sample:
        """Return a sample whose image is read once, if it is not a file on this machine."""
        if not isinstance(sample.image, ImageRef):
            return sample
        return replace(sample, image=cls(sample.image))
