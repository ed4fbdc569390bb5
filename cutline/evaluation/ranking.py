"""Rank texts for images and images for texts by cosine, and choose the pairs that ITM reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cutline.evaluation.shortlist import Rule, Shortlist, make_shortlist
from cutline.metrics import Recall, RetrievalScores
from cutline.metrics.stats import Bools, Floats, Ints

_SEED = 0
"""of the pairs that ITM is asked about, which are the same for every matcher"""


@dataclass(frozen=True)
class TextSet:
    """The texts of N images: R texts, U of them distinct."""

    distinct: list[str]
    """(U,)"""
    numbers: Ints
    """(R,), which of the distinct texts each text is"""
    images: Ints
    """(R,), the image of each text"""
    own: Ints
    """keys of the pairs of an image and a text that it has, in ascending order"""

    @classmethod
    def from_texts(cls, texts_of_images: Sequence[Sequence[str]]) -> "TextSet":
        """Make the set of the texts of each image."""
        texts = [text for row in texts_of_images for text in row]
        images = np.repeat(np.arange(len(texts_of_images)), list(map(len, texts_of_images)))
        number_of = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        numbers, distinct = np.array([number_of[text] for text in texts], np.int64), [*number_of]
        return cls(distinct, numbers, images, np.unique(images * len(distinct) + numbers))

    def is_equal(self, images: Ints, texts: Ints) -> Bools:
        """Return whether a text is equal to one of the image's own."""
        keys = self.key(images, self.numbers[texts])
        positions = np.searchsorted(self.own, keys).clip(max=len(self.own) - 1)
        result: Bools = self.own[positions] == keys
        return result

    def is_own(self, images: Ints, texts: Ints) -> Bools:
        """Return whether a text is the image's own, by index, as BLIP's code counts."""
        result: Bools = self.images[texts] == images
        return result

    def draw_pairs(self) -> tuple[Ints, Ints]:
        """Return the keys of one right and one wrong pair of each image, drawn at random.

        An image that has every text is in no wrong pair.
        """
        rng = np.random.default_rng(_SEED)
        right, wrong = [], []
        for image, own in enumerate(split_by_image(self.own, len(self.distinct))):
            right.append(self.key(image, rng.choice(own)))
            others = self.numbers[~np.isin(self.numbers, own)]  # as often as the data has them
            if len(others):
                wrong.append(self.key(image, rng.choice(others)))
        return np.array(right, np.int64), np.array(wrong, np.int64)

    def key(self, images: Ints | int, numbers: Ints | int) -> Ints:
        """Return a number for each pair of an image and a distinct text, ordered by image."""
        result: Ints = np.asarray(images, np.int64) * len(self.distinct) + numbers
        return result


def _swap(rule: Rule) -> Rule:
    return lambda texts, images: rule(images, texts)


@dataclass(frozen=True)
class Ranking:
    """The first candidates of each image and each text, and the pairs that ITM reads."""

    texts: TextSet
    image_to_text: Shortlist
    text_to_image: Shortlist
    right: Ints
    """keys of pairs of an image and a text that it has"""
    wrong: Ints
    """keys of pairs of an image and a text that it does not have"""
    keys: Ints
    """keys of all pairs that ITM reads, in ascending order"""

    @classmethod
    def from_embeds(
        cls, image_embeds: Tensor, text_embeds: Tensor, texts: TextSet, size: int
    ) -> "Ranking":
        """Rank by cosine.

        Args:
            image_embeds: (N, P), of unit length.
            text_embeds: (R, P), of unit length.
            texts: The texts.
            size: Number of candidates of each image and each text.
        """
        rules = [texts.is_equal, texts.is_own]
        image_to_text = make_shortlist(image_embeds, text_embeds, rules, size)
        text_to_image = make_shortlist(text_embeds, image_embeds, list(map(_swap, rules)), size)
        right, wrong = texts.draw_pairs()
        keys = [
            texts.key(image_to_text.rows, texts.numbers[image_to_text.candidates]),
            texts.key(text_to_image.candidates, texts.numbers[text_to_image.rows]),
        ]
        all_keys = np.unique(np.concatenate([*map(np.ravel, keys), right, wrong]))
        return cls(texts, image_to_text, text_to_image, right, wrong, all_keys)

    def list_texts(self) -> list[list[int]]:
        """Return the numbers of the distinct texts that ITM reads with each image."""
        return [part.tolist() for part in split_by_image(self.keys, len(self.texts.distinct))]

    def select(self, values: Floats, keys: Ints) -> Floats:
        """Return the values, given for all pairs that ITM reads, of some of these pairs."""
        result: Floats = values[np.searchsorted(self.keys, keys)]
        return result

    def recalls(self, match_logits: Floats) -> tuple[list[RetrievalScores], list[RetrievalScores]]:
        """Return the recall by cosine, and after re-ranking by ITM logit + cosine.

        Args:
            match_logits: The ITM logit of "match" of each pair that ITM reads.

        Returns:
            For both, the recall if equal texts count, and if only the image's own do.
        """
        texts, first, second = self.texts, self.image_to_text, self.text_to_image
        rules = [texts.is_equal, texts.is_own]
        keys = texts.key(first.rows, texts.numbers[first.candidates])
        reranked_first = first.rerank(self.select(match_logits, keys), rules)
        keys = texts.key(second.candidates, texts.numbers[second.rows])
        reranked_second = second.rerank(self.select(match_logits, keys), list(map(_swap, rules)))
        return _pair(first.recall, second.recall), _pair(reranked_first, reranked_second)


def split_by_image(keys: Ints, num_distinct: int) -> list[Ints]:
    """Return the numbers of the distinct texts of each image, given keys in ascending order.

    Each image must be in a pair.
    """
    images, numbers = np.divmod(keys, num_distinct)
    return np.split(numbers, np.flatnonzero(np.diff(images)) + 1)


def _pair(first: Sequence[Recall], second: Sequence[Recall]) -> list[RetrievalScores]:
    return [RetrievalScores(*recalls) for recalls in zip(first, second, strict=True)]
