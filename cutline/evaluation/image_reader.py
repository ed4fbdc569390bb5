"""Encode images in shares, one per process, and go on where an image cannot be read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from cutline.config import InferenceConfig
from cutline.errors import ImageError
from cutline.evaluation.shares import map_shares
from cutline.image import ImageSource
from cutline.matcher import Matcher
from cutline.progress import Progress

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ImageReader:
    """Applies functions to the embeddings of images; each process reads an equal share of them."""

    matcher: Matcher
    config: InferenceConfig
    progress: Progress

    def map(
        self,
        function: Callable[[Tensor, T], R],
        inputs: Sequence[tuple[ImageSource, T]],
        description: str,
    ) -> list[R | ImageError]:
        """Return the results for image_embeds (1, N, D) and the object of each image, in order."""

        def map_share(share: Sequence[tuple[ImageSource, T]]) -> list[R | ImageError]:
            encoded = self.progress(self._encode(share), len(share), description)
            return [
                embeds if isinstance(embeds, ImageError) else function(embeds, item)
                for embeds, item in encoded
            ]

        return map_shares(map_share, inputs)

    def _encode(
        self, inputs: Iterable[tuple[ImageSource, T]]
    ) -> Iterator[tuple[Tensor | ImageError, T]]:
        config = self.config
        for batch in self.matcher.encode_batches(inputs, config.batch_size, config.num_workers):
            yield from batch.map(lambda image_embeds: image_embeds.split(1))
