"""CIDEr (Vedantam et al., 2015), computed exactly as the COCO evaluator (pycocoevalcap) does.

It is the variant known as CIDEr-D.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from cutline.metrics.bleu import MAX_ORDER, Ngram, Tokens, count_ngrams

SCALE = 10
"""CIDEr of an image whose caption equals all of its references"""
SIGMA = 6.0
"""width of the Gaussian that penalizes a difference in length"""


class NgramVector(NamedTuple):
    """The weighted n-grams of a text."""

    weights: list[dict[Ngram, float]]
    """weight of each n-gram, by order"""
    norms: list[float]
    """Euclidean norm of the weights, by order"""
    length: int
    """number of bigrams, which the evaluator uses as the length"""


class TfIdf:
    """Weights n-grams by their count times their inverse document frequency among images."""

    def __init__(self, document_frequency: Counter[Ngram], num_images: int) -> None:
        """Store the document frequencies: in how many of `num_images` images each n-gram occurs."""
        self.document_frequency, self.log_images = document_frequency, math.log(num_images)

    def transform(self, counts: Counter[Ngram]) -> NgramVector:
        """Return the weights of the n-grams of a text, given their counts."""
        return make_vector(
            counts,
            lambda ngram: self.log_images - math.log(max(1, self.document_frequency[ngram])),
        )


def make_vector(counts: Counter[Ngram], weigh: Callable[[Ngram], float]) -> NgramVector:
    """Weight the n-grams of a text by their counts, times what `weigh` returns."""
    weights: list[dict[Ngram, float]] = [{} for _ in range(MAX_ORDER)]
    length = 0
    for ngram, count in counts.items():
        weights[len(ngram) - 1][ngram] = count * weigh(ngram)
        length += count if len(ngram) == 2 else 0
    norms = [math.sqrt(sum(weight**2 for weight in order.values())) for order in weights]
    return NgramVector(weights, norms, length)


def compute_cider(similarities: Sequence[Sequence[float]]) -> list[float]:
    """Return the CIDEr score of each image, from 0 to 10; that of the corpus is their mean.

    Args:
        similarities: The result of `compute_similarities`.
    """
    return [SCALE * sum(values) / len(values) for values in similarities]


def compute_similarities(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> list[list[float]]:
    """Return the similarity of each candidate to each of its references, from 0 to 1.

    Document frequencies come from the references of all images, so the similarities of an image
    depend on the other images.
    """
    reference_counts = [[count_ngrams(reference) for reference in texts] for texts in references]
    tf_idf = TfIdf(count_documents(reference_counts), len(references))
    similarities = []
    for candidate, counts in zip(candidates, reference_counts, strict=True):
        vector = tf_idf.transform(count_ngrams(candidate))
        similarities.append(
            [compute_similarity(vector, tf_idf.transform(reference)) for reference in counts]
        )
    return similarities


def count_documents(images: Iterable[Iterable[Counter[Ngram]]]) -> Counter[Ngram]:
    """Return in how many images each n-gram occurs, given the counts of each reference."""
    return Counter(ngram for counts in images for ngram in set().union(*counts))


def compute_similarity(candidate: NgramVector, reference: NgramVector) -> float:
    """Return the similarity of a candidate and a reference, averaged over the orders of n-grams.

    It is the cosine of their weights, clipped so that repeating an n-gram does not raise it, times
    a Gaussian penalty for a difference in length.
    """
    total = 0.0
    for order in range(MAX_ORDER):
        weights, reference_weights = candidate.weights[order], reference.weights[order]
        product = sum(
            min(weight, reference_weights[ngram]) * reference_weights[ngram]
            for ngram, weight in weights.items()
            if ngram in reference_weights
        )
        norm, reference_norm = candidate.norms[order], reference.norms[order]
        total += product / (norm * reference_norm) if norm and reference_norm else product
    difference = candidate.length - reference.length
    return total / MAX_ORDER * math.exp(-(difference**2) / (2 * SIGMA**2))
