"""All scores of a corpus and of each of its pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cutline.errors import DataError
from cutline.metrics import ptb
from cutline.metrics.bleu import Matches, bleu, count_matches
from cutline.metrics.cider import cider
from cutline.metrics.rouge import rouge_l


@dataclass(frozen=True)
class Scores:
    """Scores of a corpus, or of one picture in it; CIDEr is out of 10, the others out of 1."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider: float
    num_pictures: int


def measure(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Callable[[str], list[str]] = ptb.tokenize
) -> tuple[Scores, list[Scores]]:
    """Score one candidate per picture against that picture's references.

    Args:
        candidates: a caption per picture; it may be empty.
        references: the captions that people wrote of each picture, at least one.
        tokenize: how texts become words.

    Returns:
        the scores of the whole, and those of each picture in order. CIDEr weighs words by all the references given here, so a
        picture's score depends on its company.

    Raises:
        DataError: there are no pictures, one has no references, or the numbers differ.
    """
    if not candidates:
        raise DataError("there is nothing to measure: give at least one caption with its references")
    if len(candidates) != len(references):
        raise DataError(f"{len(candidates)} captions and references of {len(references)} pictures: give as many of both")
    if bare := [number for number, of_picture in enumerate(references, start=1) if not of_picture]:
        raise DataError(f"picture {bare[0]} has no references to compare with: give it at least one, or leave it out")
    found = [tokenize(candidate) for candidate in candidates]
    known = [[tokenize(reference) for reference in of_picture] for of_picture in references]
    rouges = [rouge_l(*pair) for pair in zip(found, known, strict=True)]
    found, known = [_apart(tokens) for tokens in found], [[_apart(tokens) for tokens in of_picture] for of_picture in known]
    matches = [count_matches(*pair) for pair in zip(found, known, strict=True)]
    ciders = cider(found, known)
    each = [_scores([match], rouge, one) for match, rouge, one in zip(matches, rouges, ciders, strict=True)]
    return _scores(matches, sum(rouges) / len(found), sum(ciders) / len(found)), each


def _scores(matches: Sequence[Matches], rouge: float, cider: float) -> Scores:
    bleu1, bleu2, bleu3, bleu4 = bleu(matches)
    return Scores(bleu1, bleu2, bleu3, bleu4, rouge, cider, len(matches))


def _apart(tokens: list[str]) -> list[str]:
    """Tokens such as `2 1/2`, which hold a no-break space, are two to the evaluator's BLEU and CIDEr, though one to its ROUGE."""
    return " ".join(tokens).split()
