"""`RandomSamples`: some samples of a collection, the same ones each time."""

import heapq
from collections.abc import Iterator

from cutline.bulk.index import hash_id
from cutline.data import Sample


class RandomSamples:
    """A random choice of samples: those whose ids have the lowest hashes."""

    def __init__(self, size: int) -> None:
        """Choose at most `size` samples."""
        self._size = size
        self._heap: list[tuple[int, str, Sample]] = []
        self._ids: set[str] = set()  # of those in the heap

    def add(self, sample: Sample) -> None:
        """Choose from one more sample; of several with one id, the first counts."""
        key = -int.from_bytes(hash_id(sample.id), "big")
        is_full = len(self._heap) == self._size
        if sample.id in self._ids or (is_full and key <= self._heap[0][0]):
            return
        entry = key, sample.id, sample
        if is_full:
            self._ids.remove(heapq.heapreplace(self._heap, entry)[1])
        else:
            heapq.heappush(self._heap, entry)
        self._ids.add(sample.id)

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over the samples that were chosen, in the order of their ids."""
        return (sample for _, _, sample in sorted(self._heap, key=lambda each: each[1]))
