"""The first candidates of each image and of each text, and how many of them are right."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cutline.metrics import Recall, average_recall, count_found
from cutline.metrics.stats import Bools, Floats, Ints

Rule = Callable[[Ints, Ints], Bools]
"""whether answers are right, given the numbers of queries and of answers"""

_MAX_CELLS = 2**22  # queries are compared with all answers in chunks of 32 MB


@dataclass(frozen=True)
class Shortlist:
    """The first K candidates of Q queries, by cosine."""

    rows: Ints
    """(Q, 1), the numbers of the queries"""
    candidates: Ints
    """(Q, K)"""
    cosines: Floats
    """(Q, K)"""
    recall: list[Recall]
    """by cosine among all answers, for each rule"""

    def rerank(self, scores: Floats, rules: Sequence[Rule]) -> list[Recall]:
        """Return the recall by score + cosine, for each rule, given scores (Q, K)."""
        scores = scores + self.cosines
        return [
            average_recall(count_found(scores, rule(self.rows, self.candidates))) for rule in rules
        ]


def make_shortlist(queries: Tensor, answers: Tensor, rules: Sequence[Rule], size: int) -> Shortlist:
    """Find the first candidates of each query among all answers.

    Args:
        queries: Their embeddings, (Q, P), of unit length.
        answers: Theirs, (C, P).
        rules: Which answers are right.
        size: Number of candidates; all answers if there are fewer.
    """
    columns = np.arange(len(answers))[None]
    size = min(size, len(answers))
    cosines, candidates, found = [], [], []
    for rows in _split_rows(len(queries), len(answers)):
        chunk = queries[rows[:, 0]] @ answers.T
        first = torch.topk(chunk, size)
        cosines.append(first.values.numpy())
        candidates.append(first.indices.numpy())
        found.append([count_found(chunk.numpy(), rule(rows, columns)) for rule in rules])
    return Shortlist(
        np.arange(len(queries))[:, None],
        np.concatenate(candidates),
        np.concatenate(cosines).astype(np.float64),
        [average_recall(np.concatenate(parts)) for parts in zip(*found, strict=True)],
    )


def _split_rows(num_queries: int, num_answers: int) -> Iterator[Ints]:
    """Yield the numbers of queries in chunks, (q, 1)."""
    size = max(1, _MAX_CELLS // max(1, num_answers))
    for start in range(0, num_queries, size):
        yield np.arange(start, min(start + size, num_queries))[:, None]
