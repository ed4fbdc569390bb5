"""Scores of the texts of any number of images, one batch after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from cutline.errors import CutlineError, ImageError
from cutline.image import ImagePrefetcher, OpenedImage
from cutline.matching.pairing import to_text_list
from cutline.matching.predictor import MatchPredictor


@dataclass(frozen=True)
class MatchScores:
    """How well each text of an image matches it."""

    itm: tuple[float, ...]
    """match probability of each text (image-text matching)"""
    itc: tuple[float, ...]
    """cosine of the embeddings of the image and each text (image-text contrastive)"""
    index: int = 0
    """number of the image in the input of `stream`"""


def stream_scores(
    predictor: MatchPredictor,
    prefetcher: ImagePrefetcher[Sequence[str]],
    start_id: int,
    batch_size: int,
    fills_batches: bool,
) -> Iterator[MatchScores | CutlineError]:
    """Yield the scores of the texts of each image, or the error of an image, in order.

    Args:
        predictor: The matcher.
        prefetcher: The images, each with its texts.
        start_id: Id of the first token of texts that read an image.
        batch_size: Images encoded together.
        fills_batches: Whether to wait for a full batch; otherwise for one image.
    """
    with prefetcher:
        while batch := prefetcher.take(batch_size if fills_batches else 1, wait=True):
            batch += prefetcher.take(batch_size - len(batch), wait=False)
            for _ in batch:
                prefetcher.release()
            yield from _score_opened(predictor, batch, start_id)
        prefetcher.raise_error()


def _score_opened(
    predictor: MatchPredictor, batch: Sequence[OpenedImage[Sequence[str]]], start_id: int
) -> Iterator[MatchScores | CutlineError]:
    encoded = predictor.encode_opened([(image.pixels, image) for image in batch])
    readable = [image for image in batch if isinstance(image.pixels, Tensor)]
    texts = [to_text_list(image.item) for image in readable]
    for result, image in encoded.map(lambda embeds: _score(predictor, embeds, texts, start_id)):
        if isinstance(result, ImageError):
            result.index = image.index
            yield result
        else:
            yield replace(result, index=image.index)


def _score(
    predictor: MatchPredictor, image_embeds: Tensor, texts: Sequence[Sequence[str]], start_id: int
) -> Iterator[MatchScores]:
    """Yield the scores of the texts of each image."""
    matches = predictor.match_embeds(image_embeds, texts, start_id)
    images = predictor.project_images(image_embeds)
    rows = predictor.project_texts([text for row in texts for text in row])
    parts = rows.split([len(row) for row in texts])
    for itm, part, image in zip(matches, parts, images, strict=True):
        yield MatchScores(tuple(itm), tuple((part @ image).tolist()))
