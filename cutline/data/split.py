"""A validation set taken from the training images."""

import hashlib
from collections.abc import Sequence

from cutline.data.sample import Sample


def split_by_image(
    samples: Sequence[Sample], share: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Set `share` of the images apart: (training, held out), both in the order given.

    Images are told apart by id, so that samples of one image stay together; which are held out depends on ids and seed, not on
    order. With a share above 0 and two images or more, neither side is empty.
    """
    ids = sorted({sample.id for sample in samples}, key=lambda id: _lot(id, seed))
    count = min(max(1, round(share * len(ids))), len(ids) - 1) if share > 0 else 0
    held_out = set(ids[: max(0, count)])
    return [s for s in samples if s.id not in held_out], [s for s in samples if s.id in held_out]


def _lot(id: str, seed: int) -> bytes:
    """Drawn anew for each seed; Python's own hash() differs from run to run."""
    return hashlib.sha256(f"{seed}:{id}".encode("utf-8", "surrogatepass")).digest()
