"""`RandomSamples`: some samples of a collection, the same ones each time."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace

from cutline.bulk.index import hash_id
from cutline.data import Sample
from cutline.report import make_thumbnail


class RandomSamples:
    """A random choice of samples: those whose ids have the lowest hashes."""

    def __init__(self, size: int, keep: Callable[[Sample], Sample] = lambda sample: sample) -> None:
        """Choose at most `size` samples.

        Args:
            size: Their number.
            keep: Returns what is kept of a sample that is chosen.
        """
        self._size, self._keep = size, keep
        self._heap: list[tuple[int, str, Sample]] = []
        self._ids: set[str] = set()  # of those in the heap

    def add(self, sample: Sample) -> None:
        """Choose from one more sample; of several with one id, the first counts."""
        key = -int.from_bytes(hash_id(sample.id), "big")
        is_full = len(self._heap) == self._size
        if sample.id in self._ids or (is_full and key <= self._heap[0][0]):
            return
        entry = key, sample.id, self._keep(sample)
        if is_full:
            self._ids.remove(heapq.heapreplace(self._heap, entry)[1])
        else:
            heapq.heappush(self._heap, entry)
        self._ids.add(sample.id)

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over the samples that were chosen, in the order of their ids."""
        return (sample for _, _, sample in sorted(self._heap, key=lambda each: each[1]))


def shrink_image(sample: Sample) -> Sample:
    """Return a sample that takes little memory: bytes of an image become those of a small copy."""
    if not isinstance(sample.image, bytes):
        return sample
    return replace(sample, image=make_thumbnail(sample.image))
