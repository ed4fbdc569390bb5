"""ROUGE-L (Lin, 2004), in the arithmetic of the COCO caption evaluator."""

from collections.abc import Sequence

BETA = 1.2  # recall weighs more than precision


def rouge_l(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F-measure of the longest common subsequence: the best precision and the best recall over the references."""
    candidate, references = (
        candidate or [""],
        [reference or [""] for reference in references],
    )  # to the evaluator, no token is an empty one
    common = [longest_common_subsequence(candidate, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(
        length / len(reference) for length, reference in zip(common, references, strict=True)
    )
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
