"""`SlotIndex`: which ids have been recorded, and where, in about 70 bytes for each."""

import hashlib
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

NO_PART = 2**32 - 1
"""part of an id that has been claimed, but has no record yet"""
NO_POSITION = 2**32 - 1
"""position of an id that the source of this run has not contained yet"""
NO_ORDER = 2**32 - 1
"""order of an id that has never had a caption"""
MIN_NEW, NEW_SHARE = 50_000, 16
"""new ids in a dictionary, which takes more memory than the sorted array: as many as this, or as
one of so many"""
_DIGEST_BYTES = 16


class SlotIndex:
    """Numbers ids in the order in which they first occurred; holds what is known of each.

    The columns have a value for each number, which is called a slot.

    Attributes:
        stamps: Hash of the stamp of the last record.
        parts: Number of the part that holds the last record, or `NO_PART`.
        offsets: Position of the last record in its part, in bytes.
        failed: Whether the last record is a failure.
        empty: Whether the last record has no text, although it is no failure.
        positions: Position of the id in the source of this run, or `NO_POSITION`.
        orders: How many ids had a caption before this one did, or `NO_ORDER`: a number that later
            runs do not change.
        captioned: The slots by these numbers.
    """

    def __init__(self) -> None:
        self.stamps, self.parts, self.offsets = array("Q"), array("I"), array("Q")
        self.failed, self.empty, self.positions = array("b"), array("b"), array("I")
        self.orders, self.captioned = array("I"), array("I")
        self._keys: npt.NDArray[Any] = np.empty(0, f"S{_DIGEST_BYTES}")  # sorted
        self._slots: npt.NDArray[np.uint32] = np.empty(0, np.uint32)  # of the keys
        self._new: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self.parts)

    def find(self, id: str) -> int | None:
        """Return the slot of an id, or None."""
        return self._find(hash_id(id))

    def _find(self, digest: bytes) -> int | None:
        if (slot := self._new.get(digest)) is not None:
            return slot
        if not len(self._keys):
            return None
        place = self._keys.searchsorted(np.bytes_(digest))
        # numpy drops zeros at the end
        found = place < len(self._keys) and self._keys[place] == digest.rstrip(b"\0")
        return int(self._slots[place]) if found else None

    def add(self, id: str) -> int:
        """Return the slot of an id, which is new if the id is."""
        digest = hash_id(id)
        slot = self._find(digest)
        if slot is None:
            slot = self._new[digest] = len(self.parts)
            self.stamps.append(0)
            self.parts.append(NO_PART)
            self.offsets.append(0)
            self.failed.append(0)
            self.empty.append(0)
            self.positions.append(NO_POSITION)
            self.orders.append(NO_ORDER)
            if len(self._new) > max(MIN_NEW, slot // NEW_SHARE):
                self.compact()
        return slot

    def set_record(
        self, slot: int, stamp: str, part: int, offset: int, failed: bool, empty: bool = False
    ) -> None:
        """Let a record be the last one of a slot."""
        self.stamps[slot], self.failed[slot], self.empty[slot] = hash_stamp(stamp), failed, empty
        self.parts[slot], self.offsets[slot] = part, offset
        if not (failed or empty) and self.orders[slot] == NO_ORDER:
            self.orders[slot] = len(self.captioned)
            self.captioned.append(slot)

    def order(self, seen_only: bool) -> npt.NDArray[np.uint32]:
        """Return the slots that have records: those of this run's source in its order, then others.

        Args:
            seen_only: Whether to leave out the others.
        """
        positions = np.array(self.positions, np.uint32)
        is_chosen = np.array(self.parts, np.uint32) != NO_PART
        if seen_only:
            is_chosen &= positions != NO_POSITION
        slots = np.flatnonzero(is_chosen).astype(np.uint32)
        positions = positions[slots]
        if np.all(positions[:-1] <= positions[1:]):  # as usual; sorting takes more memory
            return slots
        return slots[np.argsort(positions, kind="stable")]

    def compact(self) -> None:
        """Move all keys to the sorted array."""
        keys = np.frombuffer(b"".join(self._new), f"S{_DIGEST_BYTES}")
        slots = np.fromiter(self._new.values(), np.uint32, len(self._new))
        order = np.argsort(keys)
        places = self._keys.searchsorted(keys[order])
        self._keys = np.insert(self._keys, places, keys[order])
        self._slots = np.insert(self._slots, places, slots[order])
        self._new = {}


def hash_id(id: str) -> bytes:
    """Return 16 bytes that stand for an id."""
    data = id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def is_in_part(key: str, part: tuple[int, int]) -> bool:
    """Return whether a key belongs to part I of N, given I and N."""
    number, count = part
    return int.from_bytes(hash_id(key)[:8], "big") % count == number


def hash_stamp(stamp: str) -> int:
    """Return an integer of 64 bits that stands for a stamp."""
    return int.from_bytes(hashlib.blake2b(stamp.encode(), digest_size=8).digest(), "big")
