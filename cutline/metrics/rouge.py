"""ROUGE-L (Lin, 2004), in the arithmetic of the COCO caption evaluator."""

from collections.abc import Sequence

BETA = 1.2  # recall weighs more than precision


def rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F-measure of the longest common subsequence: the best precision and the best recall over the references."""
    if not candidate:
        return 0.0
    common = [longest_common_subsequence(candidate, reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max(length / max(1, len(reference)) for length, reference in zip(common, references, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length."""
    row = [0] * (len(b) + 1)
    for token in a:
        diagonal = 0
        for column, other in enumerate(b, start=1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
