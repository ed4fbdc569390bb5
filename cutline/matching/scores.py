"""`MatchScores`: how well the texts of an image match it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from cutline.matching.pairing import to_text_list
from cutline.matching.predictor import MatchPredictor
from cutline.predictor import ImageResult


@dataclass(frozen=True)
class MatchScores(ImageResult):
    """How well each text of an image matches it."""

    itm: tuple[float, ...]
    """match probability of each text (image-text matching)"""
    itc: tuple[float, ...]
    """cosine of the embeddings of the image and each text (image-text contrastive)"""

    @property
    def columns(self) -> dict[str, tuple[float, ...]]:
        """Return the scores by name."""
        return {"itm": self.itm, "itc": self.itc}


def score_texts(
    predictor: MatchPredictor, image_embeds: Tensor, texts: Sequence[Sequence[str]], start_id: int
) -> Iterator[MatchScores]:
    """Yield the scores of the texts of each image.

    Args:
        predictor: The matcher.
        image_embeds: (B, N, D).
        texts: The texts of each image.
        start_id: Id of the first token of texts that read an image.

    Raises:
        ConfigError: A text is not a string.
    """
    texts = list(map(to_text_list, texts))
    matches = predictor.match_embeds(image_embeds, texts, start_id)
    images = predictor.project_images(image_embeds)
    rows = predictor.project_texts([text for row in texts for text in row])
    parts = rows.split([len(row) for row in texts])
    for itm, part, image in zip(matches, parts, images, strict=True):
        yield MatchScores(tuple(itm), tuple((part @ image).tolist()))
