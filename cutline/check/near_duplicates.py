"""Images that look alike, found without comparing each with each.

Candidates come from a difference hash (N. Krawetz, "Kind of Like That", hackerfactor.com, 2013): 64 bits, each saying whether a cell of
the 9 x 8 thumb is darker than its left neighbour. Hashes of copies agree in most bits, so almost surely in all 16 of one of four bands,
and only within a band's equal values are images compared; where many have the same, as those on a white ground do, only those whose
levels are near. What decides is the thumbs themselves: cell by cell, in each colour, copies
differ by a few grey levels.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from cutline.check.images import GRID

MOST_BITS = 10
"""of 64 that hashes of copies may differ in"""
MOST_LEVELS = 16
"""of 255 that a cell of copies may differ by. Measured on 2,230 photographs of three data sets: JPEG of quality 30, or half the size at
quality 75, at most 13; different photographs whose hashes agree, more than 16 in all pairs but the truly repeated one"""
LARGE = 128
"""images of a bucket that are compared each with each"""
_PART = 0.6  # of a bucket, that a split must not leave more than: what lies between the halves goes with both
_STEP = (
    2  # grey levels that count as darker, or the noise of JPEG would set the bits of plain areas
)

Hashes = npt.NDArray[np.uint64]
Thumbs = npt.NDArray[np.uint8]


def group_near_duplicates(thumbs: Sequence[bytes]) -> list[list[int]]:
    """Indices of images that look alike, two or more a group, in the order given; which group does not depend on that order."""
    if len(thumbs) < 2:
        return []
    flat, place = np.unique(
        np.frombuffer(b"".join(thumbs), np.uint8).reshape(len(thumbs), -1),
        axis=0,
        return_inverse=True,
    )
    roots = _join(difference_hash(flat), flat)
    groups = defaultdict(list)
    for index, root in enumerate(roots[place.reshape(-1)]):
        groups[int(root)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def difference_hash(thumbs: Thumbs) -> Hashes:
    """The 64 bits of each thumb (N, 216)."""
    columns, rows = GRID
    grey = thumbs.reshape(-1, rows, columns, 3) @ np.array(
        [0.299, 0.587, 0.114], np.float32
    )  # (N, 8, 9); ITU-R 601
    darker = grey[:, :, :-1] > grey[:, :, 1:] + _STEP
    hashes: Hashes = np.packbits(darker.reshape(-1, 64), axis=1).view(np.uint64).reshape(-1)
    return hashes


def _join(hashes: Hashes, thumbs: Thumbs) -> npt.NDArray[np.int64]:
    """The group of each image, named by its first member.

    In each bucket of equal bands the first image takes those like it along, then the first of the rest: one pass where all are
    alike, and no chain of small steps from one image to a different one within a bucket that is not split.
    """
    roots = np.arange(len(hashes))
    for shift in range(0, 64, 16):
        band = (hashes >> np.uint64(shift)).astype(np.uint16)
        order = np.argsort(band, kind="stable")
        buckets = np.split(order, np.flatnonzero(np.diff(band[order])) + 1)
        for bucket in chain.from_iterable(_split(bucket, thumbs) for bucket in buckets):
            while len(bucket) > 1:
                first, bucket = bucket[0], bucket[1:]
                like = _is_like(first, bucket, hashes, thumbs)
                for other in bucket[like]:
                    _unite(roots, int(first), int(other))
                bucket = bucket[~like]
    return np.array([_root(roots, index) for index in range(len(roots))])


def _split(bucket: npt.NDArray[np.int64], thumbs: Thumbs) -> Iterator[npt.NDArray[np.int64]]:
    """Parts of a large bucket, such that two images whose levels are near everywhere have one in common.

    The bucket is halved by the level of one channel of one cell, of them all the one that halves it best; an image within MOST_LEVELS / 2
    of the middle is in both halves.
    """
    if len(bucket) > LARGE:
        levels = thumbs[bucket]
        middle = np.median(levels, axis=0)
        halves = levels <= middle + MOST_LEVELS / 2, levels >= middle - MOST_LEVELS / 2
        larger = np.maximum(*(half.sum(axis=0) for half in halves))
        cell = int(larger.argmin())
        if larger[cell] <= _PART * len(bucket):
            for half in halves:
                yield from _split(bucket[half[:, cell]], thumbs)
            return
    yield bucket


def _is_like(
    one: int, others: npt.NDArray[np.int64], hashes: Hashes, thumbs: Thumbs
) -> npt.NDArray[np.bool_]:
    like: npt.NDArray[np.bool_] = _count_ones(hashes[others] ^ hashes[one]) <= MOST_BITS
    close = others[like]
    difference = np.abs(thumbs[close].astype(np.int16) - thumbs[one].astype(np.int16))
    like[like] = difference.max(axis=1, initial=0) <= MOST_LEVELS
    return like


def _count_ones(values: Hashes) -> Hashes:
    """Bits set (H. S. Warren, Hacker's Delight, 5-1); numpy has `bitwise_count` only since 2.0."""
    ones = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    ones = (ones & np.uint64(0x3333333333333333)) + (
        (ones >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    ones = (ones + (ones >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counted: Hashes = (ones * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return counted


def _unite(roots: npt.NDArray[np.int64], one: int, other: int) -> None:
    first, second = sorted((_root(roots, one), _root(roots, other)))
    roots[second] = first


def _root(roots: npt.NDArray[np.int64], index: int) -> int:
    while roots[index] != index:
        roots[index] = roots[roots[index]]
        index = int(roots[index])
    return index
