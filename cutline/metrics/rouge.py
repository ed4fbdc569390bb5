"""ROUGE-L (Lin, 2004), computed exactly as the COCO evaluator (pycocoevalcap) does."""

from collections.abc import Sequence

from cutline.metrics.bleu import Tokens

BETA = 1.2
"""weight of recall relative to precision"""


def compute_rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """Return the F-measure of the longest common subsequence.

    It combines the best precision and the best recall over all references.
    """
    # For the evaluator, an empty text consists of one empty token.
    candidate, references = candidate or [""], [reference or [""] for reference in references]
    lcs_lengths = [compute_lcs_length(candidate, reference) for reference in references]
    if not any(lcs_lengths):
        return 0.0
    precision = max(lcs_lengths) / len(candidate)
    recall = max(
        length / len(reference) for length, reference in zip(lcs_lengths, references, strict=True)
    )
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def compute_lcs_length(a: Tokens, b: Tokens) -> int:
    """Return the length of the longest common subsequence of two sequences."""
    # Dynamic programming with one row: row[j] is the result for the tokens of a so far and b[:j].
    row = [0] * (len(b) + 1)
    for token in a:
        diagonal = 0
        for column, other in enumerate(b, start=1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
