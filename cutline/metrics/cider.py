"""CIDEr (Vedantam et al., 2015), computed exactly as the COCO caption evaluator does.

It is the variant known as CIDEr-D.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cutline.metrics.bleu import MAX_ORDER, Ngram, Tokens, count_ngrams

SIGMA = 6.0
"""width of the Gaussian that penalizes a difference in length"""


class NgramVector(NamedTuple):
    """The weighted n-grams of a text."""

    weights: list[dict[Ngram, float]]
    """weight of each n-gram, by order"""
    norms: list[float]
    """Euclidean norm of the weights, by order"""
    length: int
    """number of bigrams, which the evaluator takes for the length"""


class TfIdf:
    """Weights n-grams by their count times their inverse document frequency among images."""

    def __init__(self, document_frequency: Counter[Ngram], num_images: int) -> None:
        """Store in how many of `num_images` images each n-gram occurs."""
        self.document_frequency, self.log_images = document_frequency, math.log(num_images)

    def transform(self, counts: Counter[Ngram]) -> NgramVector:
        """Return the weights of the n-grams of a text, given their counts."""
        weights: list[dict[Ngram, float]] = [{} for _ in range(MAX_ORDER)]
        length = 0
        for ngram, count in counts.items():
            idf = self.log_images - math.log(max(1, self.document_frequency[ngram]))
            weights[len(ngram) - 1][ngram] = count * idf
            length += count if len(ngram) == 2 else 0
        norms = [math.sqrt(sum(weight**2 for weight in order.values())) for order in weights]
        return NgramVector(weights, norms, length)


def compute_cider(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> list[float]:
    """Return the CIDEr of each image, out of 10; the score of the corpus is their mean.

    Document frequencies come from the references of all images, so the score of an image depends
    on the other images.
    """
    counts = [[count_ngrams(reference) for reference in texts] for texts in references]
    frequency = Counter(ngram for texts in counts for ngram in set().union(*texts))
    tf_idf = TfIdf(frequency, len(references))
    scores = []
    for candidate, texts in zip(candidates, counts, strict=True):
        vector = tf_idf.transform(count_ngrams(candidate))
        similarities = [compute_similarity(vector, tf_idf.transform(text)) for text in texts]
        scores.append(10 * sum(similarities) / len(similarities))
    return scores


def compute_similarity(candidate: NgramVector, reference: NgramVector) -> float:
    """Return the similarity of a candidate and a reference, averaged over the orders of n-grams.

    It is the cosine of their weights, clipped so that repetition does not pay, times a Gaussian of
    the difference in length.
    """
    total = 0.0
    for order in range(MAX_ORDER):
        weights, others = candidate.weights[order], reference.weights[order]
        product = sum(
            min(weight, others[ngram]) * others[ngram]
            for ngram, weight in weights.items()
            if ngram in others
        )
        norms = candidate.norms[order], reference.norms[order]
        total += product / (norms[0] * norms[1]) if all(norms) else product
    difference = candidate.length - reference.length
    return total / MAX_ORDER * math.exp(-(difference**2) / (2 * SIGMA**2))
