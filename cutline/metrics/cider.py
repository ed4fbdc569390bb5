"""CIDEr (Vedantam et al., 2015), in the arithmetic of the COCO caption evaluator: the variant known as CIDEr-D."""

import math
from collections import Counter
from collections.abc import Sequence

from cutline.metrics.bleu import ORDERS, Words, ngrams

SIGMA = 6.0  # how quickly a difference in length costs
Weights = list[dict[tuple[str, ...], float]]  # by order of n-gram


def cider(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """CIDEr of each image; the corpus score is their mean.

    How much an n-gram weighs comes from the references of all images: what is said of many says little.
    """
    counts = [[ngrams(reference) for reference in of_picture] for of_picture in references]
    frequency = Counter(ngram for of_picture in counts for ngram in set().union(*of_picture))
    weigher = TfIdf(frequency, len(references))
    scores = []
    for candidate, of_picture in zip(candidates, counts, strict=True):
        hypothesis = weigher.weigh(ngrams(candidate))
        similar = [similarity(hypothesis, weigher.weigh(reference)) for reference in of_picture]
        scores.append(10 * sum(similar) / len(similar))
    return scores


class TfIdf:
    """Turns counts of n-grams into their weights: count times the logarithm of how rare the n-gram is among images."""

    def __init__(self, frequency: Counter[tuple[str, ...]], pictures: int) -> None:
        self.frequency, self.log_pictures = frequency, math.log(pictures)

    def weigh(self, counts: Counter[tuple[str, ...]]) -> tuple[Weights, list[float], int]:
        """Weights by order, their norms, and the length, which the evaluator counts in bigrams."""
        weights: Weights = [{} for _ in range(ORDERS)]
        length = 0
        for ngram, count in counts.items():
            weights[len(ngram) - 1][ngram] = count * (
                self.log_pictures - math.log(max(1, self.frequency[ngram]))
            )
            length += count if len(ngram) == 2 else 0
        norms = [math.sqrt(sum(weight**2 for weight in of_order.values())) for of_order in weights]
        return weights, norms, length


def similarity(
    hypothesis: tuple[Weights, list[float], int], reference: tuple[Weights, list[float], int]
) -> float:
    """Cosine of the weights, clipped so that repetition does not pay, times a Gaussian of the difference in length; mean over orders."""
    total = 0.0
    for ours, theirs, norm, other in zip(
        hypothesis[0], reference[0], hypothesis[1], reference[1], strict=True
    ):
        product = sum(
            min(weight, theirs[ngram]) * theirs[ngram]
            for ngram, weight in ours.items()
            if ngram in theirs
        )
        total += product / (norm * other) if norm and other else product
    return total / ORDERS * math.exp(-((hypothesis[2] - reference[2]) ** 2) / (2 * SIGMA**2))
