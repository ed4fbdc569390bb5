"""An engine without a model: the caption of an image is a function of its bytes."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cutline.batching import Caption
from cutline.bulk.job import Result
from cutline.data import Sample
from cutline.errors import ImageError
from cutline.files import ImageRef


def caption_text(data: bytes) -> str:
    """Return the caption of an image file."""
    return f"caption {hashlib.sha256(data).hexdigest()[:12]}"


@dataclass
class FakeEngine:
    """Captions samples a few at a time, in random order, and notes what it was given."""

    seed: int = 0
    stop_after: int = -1
    """results after which it raises KeyboardInterrupt; -1 for never"""
    ids: list[str] = field(default_factory=list)

    def __call__(self, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
        rng = random.Random(self.seed)
        count = 0
        while group := list(islice(samples, 5)):
            rng.shuffle(group)
            for sample in group:
                if count == self.stop_after:
                    raise KeyboardInterrupt
                count += 1
                self.ids.append(sample.id)
                yield sample, self._caption(sample)

    def _caption(self, sample: Sample) -> Result:
        image = sample.image
        try:
            data = image.read() if isinstance(image, ImageRef) else image
            data = Path(data).read_bytes() if isinstance(data, str) else data
        except (OSError, ImageError):
            return ImageError(f"{sample.name}: no such image; check the path")
        if not data:
            return ImageError(f"{sample.name}: the file is empty; copy it again or remove it")
        return Caption(caption_text(data), -1.5, (1, 2))
