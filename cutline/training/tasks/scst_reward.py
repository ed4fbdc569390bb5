"""The reward of sampled captions: CIDEr-D, BLEU-4 and match probability.

In the n-grams of captions and references, the end of a caption is a token.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cutline.config import ScstConfig
from cutline.matcher import Matcher
from cutline.metrics.bleu import compute_bleu, count_matches, count_ngrams
from cutline.metrics.cider import (
    NgramVector,
    TfIdf,
    compute_cider,
    compute_similarity,
    count_documents,
)
from cutline.metrics.stats import split_at_spaces
from cutline.metrics.tokenizers import Tokenize

END = "\n"
"""the token at the end of a caption; no token of a text is one"""
CACHED_TEXTS = 20_000
"""texts whose n-grams are kept, about 200 MB of them"""


class SampledCaption(NamedTuple):
    """What was sampled of an image."""

    text: str
    is_finished: bool
    """whether it has its end token"""


class Reward:
    """Rewards captions for n-grams that they share with the references of their image.

    References end with a token of their own, and so does a finished caption. Without it, fragments
    such as "a man riding a" would gain: their n-grams are as good as those of whole captions (Luo,
    2020, arXiv 2003.09971; Hu et al., 2023, arXiv 2305.12254).
    """

    def __init__(
        self,
        config: ScstConfig,
        references: Sequence[Sequence[str]],
        tokenize: Tokenize,
        matcher: Matcher | None = None,
    ) -> None:
        """Count the n-grams of the training captions.

        Args:
            config: Weights of the metrics.
            references: The captions of each training image.
            tokenize: Splits a text into words.
            matcher: Computes match probabilities, if these have a weight.
        """
        self.config, self.matcher, self._tokenize = config, matcher, tokenize
        counts = (
            [count_ngrams(self._split_with_end(text)) for text in texts] for texts in references
        )
        frequency = count_documents(counts)
        for ngram in [ngram for ngram, count in frequency.items() if count == 1]:
            del frequency[ngram]  # of no use: one that was never counted weighs the same
        self._tf_idf = TfIdf(frequency, len(references))
        self._weigh = lru_cache(CACHED_TEXTS)(self._weigh_text)

    def compute(
        self,
        captions: Sequence[Sequence[SampledCaption]],
        references: Sequence[Sequence[str]],
        pixels: Tensor,
    ) -> Tensor:
        """Return the reward of each caption, (B, n) on the device of the pixels.

        Args:
            captions: n of each image.
            references: The reference captions of each image.
            pixels: (B, 3, S, S) uint8, for the matcher.
        """
        rewards = torch.tensor(
            [
                [self.compute_from_ngrams(caption, texts) for caption in row]
                for row, texts in zip(captions, references, strict=True)
            ]
        )
        if self.matcher:
            rewards += self.config.matcher_weight * match_samples(self.matcher, pixels, captions)
        return rewards.to(pixels.device)

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text as metrics see them."""
        return split_at_spaces(self._tokenize(text))

    def compute_from_ngrams(self, caption: SampledCaption, references: Sequence[str]) -> float:
        """Return the reward of a caption, without the match probability."""
        reward = 0.0
        if self.config.cider_weight:
            vectors = [self._weigh(text, True) for text in references]
            own = self._weigh(*caption)
            similarities = [compute_similarity(own, vector) for vector in vectors]
            reward += self.config.cider_weight * compute_cider([similarities])[0]
        if self.config.bleu4_weight:
            ended = list(map(self._split_with_end, references))
            matches = count_matches(self._split_with_end(*caption), ended)
            reward += self.config.bleu4_weight * float(compute_bleu(matches.to_array())[-1])
        return reward

    def _split_with_end(self, text: str, is_finished: bool = True) -> list[str]:
        return self.split(text) + [END] * is_finished

    def _weigh_text(self, text: str, is_finished: bool) -> NgramVector:
        return self._tf_idf.transform(count_ngrams(self._split_with_end(text, is_finished)))


def match_samples(
    matcher: Matcher, pixels: Tensor, captions: Sequence[Sequence[SampledCaption]]
) -> Tensor:
    """Return the match probability of each image and each of its captions, (B, n) on the CPU.

    Args:
        matcher: The matcher.
        pixels: (B, 3, S, S) uint8, as the captioner sees them.
        captions: n of each image.
    """
    size = matcher.config.vision.image_size
    if pixels.shape[-1] != size:
        resized = F.interpolate(pixels.float(), (size, size), mode="bicubic", antialias=True)
        pixels = resized.round().clamp(0, 255).to(torch.uint8)
    texts = [[caption.text for caption in row] for row in captions]
    with torch.autocast(pixels.device.type, enabled=False), matcher.inference():
        image_embeds = matcher.encode_images(pixels.cpu())
        return torch.tensor(matcher.match_embeds(image_embeds, texts, matcher.start_id("enc")))
