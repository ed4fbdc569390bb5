"""Group near-duplicate images without comparing every pair.

Candidates come from a 64-bit difference hash (dHash; N. Krawetz, "Kind of Like That",
hackerfactor.com, 2013): each bit says whether a cell of the 9 x 8 thumbnail is darker than its left
neighbor. Each hash is cut into four bands of 16 bits, and only images with an equal band are
compared (locality-sensitive hashing). Hashes that differ in at most three bits always share a band;
copies that differ in more bits may be missed. If many images share a band, as images on a white
background do, their bucket is also split by gray level.

The thumbnails decide: copies differ by a few levels in each cell and color.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from cutline.check.images import HASH_THUMBNAIL_SIZE

MAX_BITS = 10
"""maximum number of the 64 bits in which the hashes of copies differ"""
MAX_LEVELS = 16
"""maximum difference between the thumbnails of copies, per cell and color, of 255 levels.
Measured on 2,230 photographs of three datasets: copies saved as JPEG of quality 30, or at half the
size with quality 75, differ by at most 13; different photographs with similar hashes differ by more
than 16, except for one pair that really is a duplicate"""
MAX_BUCKET = 128
"""maximum number of images of a bucket that are compared with each other"""
# A bucket is split only if neither half has more than this fraction of it. Images near the
# threshold belong to both halves.
_MAX_HALF = 0.6
# A cell counts as darker only by more than this many gray levels. With less, JPEG noise would set
# the bits of plain areas.
_MIN_STEP = 2

Hashes = npt.NDArray[np.uint64]
Thumbnails = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def group_near_duplicates(thumbnails: Sequence[bytes]) -> list[list[int]]:
    """Return groups of two or more near-duplicate images, as indices in ascending order.

    The groups do not depend on the order of the images.

    Args:
        thumbnails: RGB pixels of size HASH_THUMBNAIL_SIZE of each image.
    """
    if len(thumbnails) < 2:
        return []
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), -1)
    # np.unique sorts, so that the order of the images does not matter.
    unique, positions = np.unique(pixels, axis=0, return_inverse=True)
    roots = _find_roots(difference_hash(unique), unique)
    groups = defaultdict(list)
    for index, root in enumerate(roots[positions.reshape(-1)]):  # numpy 2.0 returns (N, 1)
        groups[int(root)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def difference_hash(thumbnails: Thumbnails) -> Hashes:
    """Return the 64-bit hashes (N,) of thumbnails (N, 216)."""
    columns, rows = HASH_THUMBNAIL_SIZE
    luma = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    gray = thumbnails.reshape(-1, rows, columns, 3) @ luma  # (N, 8, 9)
    darker = gray[:, :, :-1] > gray[:, :, 1:] + _MIN_STEP
    hashes: Hashes = np.packbits(darker.reshape(-1, 64), axis=1).view(np.uint64).reshape(-1)
    return hashes


def _find_roots(hashes: Hashes, thumbnails: Thumbnails) -> Indices:
    """Return the group of each image, as the index of the group's first image.

    In each bucket, all images like the first one join its group and leave the bucket; then the next
    image of those that remain is the first. This takes one pass if all images are alike. It also
    keeps small differences from adding up: within a bucket that is not split, images are compared
    with the first image only, not with each other.
    """
    # Union-find: roots[i] is another image of the group of i, or i itself for its first image.
    roots = np.arange(len(hashes))
    for shift in range(0, 64, 16):
        # Images with equal bands form a bucket: sort by band, and split where it changes.
        band = (hashes >> np.uint64(shift)).astype(np.uint16)
        order = np.argsort(band, kind="stable")
        buckets = np.split(order, np.flatnonzero(np.diff(band[order])) + 1)
        for part in chain.from_iterable(_split_bucket(bucket, thumbnails) for bucket in buckets):
            while len(part) > 1:
                first, part = part[0], part[1:]
                similar = _find_similar(first, part, hashes, thumbnails)
                for index in part[similar]:
                    _join_groups(roots, int(first), int(index))
                part = part[~similar]
    return np.array([_find_root(roots, index) for index in range(len(roots))])


def _split_bucket(bucket: Indices, thumbnails: Thumbnails) -> Iterator[Indices]:
    """Yield parts of a large bucket such that any two similar images have a part in common.

    The bucket is halved at the median level of one channel of one cell: the one that gives the most
    even halves. An image within MAX_LEVELS / 2 of the median belongs to both halves.
    """
    if len(bucket) > MAX_BUCKET:
        levels = thumbnails[bucket]
        median = np.median(levels, axis=0)
        halves = levels <= median + MAX_LEVELS / 2, levels >= median - MAX_LEVELS / 2
        larger = np.maximum(*(half.sum(axis=0) for half in halves))
        cell = int(larger.argmin())
        if larger[cell] <= _MAX_HALF * len(bucket):
            for half in halves:
                yield from _split_bucket(bucket[half[:, cell]], thumbnails)
            return
    yield bucket


def _find_similar(
    index: int, others: Indices, hashes: Hashes, thumbnails: Thumbnails
) -> npt.NDArray[np.bool_]:
    """Return which of the images `others` look like the image `index`."""
    similar: npt.NDArray[np.bool_] = _count_bits(hashes[others] ^ hashes[index]) <= MAX_BITS
    # Only the thumbnails of images with similar hashes are compared.
    candidates = thumbnails[others[similar]].astype(np.int16)
    difference = np.abs(candidates - thumbnails[index].astype(np.int16))
    similar[similar] = difference.max(axis=1, initial=0) <= MAX_LEVELS
    return similar


def _count_bits(values: Hashes) -> Hashes:
    """Return the number of bits set (H. S. Warren, Hacker's Delight, 5-1).

    numpy has `bitwise_count` only since 2.0.
    """
    pairs = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    mask = np.uint64(0x3333333333333333)
    nibbles = (pairs & mask) + ((pairs >> np.uint64(2)) & mask)
    in_bytes = (nibbles + (nibbles >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Hashes = (in_bytes * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return counts


def _join_groups(roots: Indices, index: int, other: int) -> None:
    """Merge the groups of two images; the smaller root represents both."""
    first, second = sorted((_find_root(roots, index), _find_root(roots, other)))
    roots[second] = first


def _find_root(roots: Indices, index: int) -> int:
    """Return the first image of an image's group."""
    while roots[index] != index:
        roots[index] = roots[roots[index]]  # path halving keeps later searches short
        index = int(roots[index])
    return index
