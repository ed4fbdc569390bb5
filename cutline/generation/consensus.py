"""Consensus: of the captions that a search has found, the one that the others resemble most.

This is decoding by minimum Bayes risk (Kumar & Byrne, 2004): the risk of a caption is what it is
expected to lose if any of the others is the right one, each with its probability.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from cutline.generation.interfaces import Hypothesis
from cutline.metrics.bleu import count_ngrams
from cutline.metrics.cider import compute_similarity, make_vector


def rank_by_consensus(found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Sort the captions of an image by their expected similarity to all of them, highest first.

    The similarity is that of CIDEr-D on tokens, with equal weights of n-grams, and with the end
    token as a token. The weights of captions are their probabilities under the model.
    """
    sums = [sum(hypothesis.token_log_probs) for hypothesis in found]
    weights = [math.exp(value - max(sums)) for value in sums]
    vectors = [
        make_vector(count_ngrams(list_tokens(hypothesis)), lambda _: 1.0) for hypothesis in found
    ]
    gains = [
        sum(
            weight * compute_similarity(vector, other)
            for weight, other in zip(weights, vectors, strict=True)
        )
        for vector in vectors
    ]
    order = sorted(range(len(found)), key=lambda index: -gains[index])
    return [replace(found[index], candidate=rank) for rank, index in enumerate(order)]


def list_tokens(hypothesis: Hypothesis) -> list[str]:
    """Return the tokens of a caption, with the end token if it has one."""
    return [*map(str, hypothesis.token_ids), *(["end"] if hypothesis.is_finished else [])]
