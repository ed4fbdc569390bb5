"""`LikelihoodRatio`: how much likelier a text is given its image than given other images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log
from typing import TypeAlias

import torch
from torch import Tensor

from cutline.captioner import Captioner
from cutline.config import InferenceConfig
from cutline.errors import ConfigError, CutlineError
from cutline.image import ImageSource
from cutline.matching import to_text_list
from cutline.model import KeysValues
from cutline.predictor import ImageResult
from cutline.scoring import score_equally_many
from cutline.tokenizer import EncodedText

ImageKeys: TypeAlias = list[KeysValues]
"""keys and values of images for the cross-attention of each layer"""


@dataclass(frozen=True)
class RatioScores(ImageResult):
    """How much likelier each text of an image is given it than given other images."""

    ratio: tuple[float, ...]
    """natural logarithm of the likelihood ratio of each text; above 0, the text is likelier"""

    @property
    def columns(self) -> dict[str, tuple[float, ...]]:
        """Return the scores by name."""
        return {"ratio": self.ratio}


class LikelihoodRatio:
    """Tells which texts belong to an image by a captioner alone, without a matcher.

    The score of a text c is log p(c | image) - log mean p(c | other image), the mean taken over
    images of a background: a frequent text is likely given any image, but not much likelier given
    one. p is the product over all tokens, [SEP] included. Texts are used as they are, after the
    captioner's own prompt, and cut at its number of positions.
    """

    def __init__(
        self, captioner: Captioner, background: Sequence[ImageSource], batch_size: int = 8
    ) -> None:
        """Encode the images of the background.

        Args:
            captioner: The captioner.
            background: Images like those whose texts are scored, at least one.
            batch_size: Number of images encoded together.

        Raises:
            ImageError: An image cannot be read.
            ConfigError: There is no image.
        """
        if not background:
            raise ConfigError("a text is compared with other images: give at least one")
        self.captioner = captioner
        self._background: list[ImageKeys] = []
        inputs = ((image, None) for image in background)
        for batch in captioner.encode_batches(inputs, batch_size):
            with captioner.inference():
                self._background.append(self._project(batch.require_embeds()))

    def stream(
        self,
        inputs: Iterable[tuple[ImageSource, Sequence[str]]],
        *,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> Iterator[RatioScores | CutlineError]:
        """Score the texts of any number of images, lazily and in order.

        Arguments and errors are those of `Matcher.stream`, without `start_token`.
        """
        InferenceConfig(batch_size=batch_size, num_workers=num_workers)  # checks both
        return self.captioner.stream_results(inputs, self._score, batch_size, num_workers)

    def _score(self, image_embeds: Tensor, texts: Sequence[Sequence[str]]) -> list[RatioScores]:
        """Return the scores of the texts of each image, given image_embeds (B, N, D)."""
        rows = list(map(to_text_list, texts))
        distinct = list(dict.fromkeys(text for row in rows for text in row))
        encoded = {text: self._encode(text) for text in distinct}
        with self.captioner.inference():
            means = self._score_others(encoded)
            own = [
                self._score_texts([encoded[text] for text in row], self._project(embeds))
                for row, embeds in zip(rows, image_embeds.split(1), strict=True)
            ]
        results = []
        for row, scores in zip(rows, own, strict=True):
            pairs = zip(row, scores, strict=True)
            results.append(RatioScores(tuple(score - means[text] for text, (score,) in pairs)))
        return results

    def _project(self, image_embeds: Tensor) -> ImageKeys:
        """Return the keys and values of images, given image_embeds (B, N, D)."""
        return list(self.captioner.model.text.project_image(image_embeds))

    def _score_others(self, encoded: dict[str, EncodedText]) -> dict[str, float]:
        """Return the logarithm of the mean likelihood of each text, given the background."""
        rows = list(encoded.values())
        parts = [self._score_texts(rows, keys) for keys in self._background]
        return {
            text: _log_mean_exp([score for part in scores for score in part])
            for text, scores in zip(encoded, zip(*parts, strict=True), strict=True)
        }

    def _score_texts(self, encoded: Sequence[EncodedText], images: ImageKeys) -> list[list[float]]:
        """Return the log-likelihood of each of K texts, given each of B images: K rows of B."""
        found: list[list[float]] = [[] for _ in encoded]
        num_images = len(images[0][0])
        # Without padding, so that scores do not depend on other texts, not even in the last bit.
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row].token_ids))
        for _, group in groupby(order, key=lambda row: len(encoded[row].token_ids)):
            rows = list(group)
            inputs = [[encoded[row] for row in rows]] * num_images
            for scores in score_equally_many(inputs, images, self.captioner.model):
                for row, score in zip(rows, scores, strict=True):
                    found[row].append(score.log_prob)
        return found

    def _encode(self, text: str) -> EncodedText:
        config = self.captioner.config
        return self.captioner.tokenizer.encode(text, config.prompt, config.text.max_positions)


def _log_mean_exp(values: Sequence[float]) -> float:
    return float(torch.tensor(values).logsumexp(0)) - log(len(values))
