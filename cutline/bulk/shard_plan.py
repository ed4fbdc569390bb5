"""`ShardPlan`: which samples each new shard should contain."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cutline.bulk.index import NO_ORDER, NO_POSITION
from cutline.bulk.manifest import Manifest
from cutline.bulk.parts import Position


class PlannedSample(NamedTuple):
    """A sample that a shard should contain."""

    slot: int
    position: Position
    """where its caption is recorded"""


class ShardPlan:
    """Numbers shards of so many samples each, in the order in which these were captioned first.

    A sample stays in its shard, which has fewer if one fails later, or leaves the source.
    """

    def __init__(self, manifest: Manifest, shard_size: int) -> None:
        self._manifest, self._index, self._size = manifest, manifest.index, shard_size

    def __len__(self) -> int:
        """Return the number of shards."""
        return -(-len(self._index.captioned) // self._size)

    def number_of(self, slot: int) -> int:
        """Return the number of a sample's shard; -1 if it never had a caption."""
        order = self._index.orders[slot]
        return -1 if order == NO_ORDER else order // self._size

    def is_full(self, number: int) -> bool:
        """Return whether no further samples come into a shard."""
        return (number + 1) * self._size <= len(self._index.captioned)

    def iter_shard(self, number: int, seen_only: bool = False) -> Iterator[PlannedSample]:
        """Yield the samples of a shard.

        Args:
            number: Number of the shard.
            seen_only: Whether to leave out what this run's source does not contain.
        """
        start = number * self._size
        for slot in self._index.captioned[start : start + self._size]:
            position = self._manifest.find_caption(slot)
            if position and not (seen_only and self._index.positions[slot] == NO_POSITION):
                yield PlannedSample(slot, position)

    def find_outdated(self) -> list[int]:
        """Return the shards with samples that this run's source does not contain."""
        positions = np.array(self._index.positions)[np.array(self._index.captioned)]
        orders = np.flatnonzero(positions == NO_POSITION)
        return [int(number) for number in np.unique(orders // self._size)]
