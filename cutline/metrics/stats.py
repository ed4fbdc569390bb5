"""What each image adds to the scores of a corpus, so that any selection of images can be scored without looking at words again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cutline.config import ExtraMetric
from cutline.errors import DataError
from cutline.metrics import java, ptb
from cutline.metrics.bleu import Words, bleu_of_rows, count_matches
from cutline.metrics.cider import cider
from cutline.metrics.rouge import rouge_l
from cutline.metrics.scores import Scores

Floats = NDArray[np.float64]
Tokenize = Callable[[str], list[str]]


@dataclass(frozen=True)
class CorpusStats:
    """Per image, what is summed over the images of a corpus: counts for BLEU and METEOR, scores for the others."""

    rows: dict[str, Floats]
    """by metric: (N, 10) for bleu, (N, 23) for meteor, (N, 1) for rouge_l, cider and spice"""
    candidates: Sequence[Words]
    references: Sequence[Sequence[Words]]

    def __len__(self) -> int:
        return len(self.candidates)

    def whole(self) -> Scores:
        """Scores of all images together."""
        return _scores(
            score_sums(
                {name: rows.sum(0, keepdims=True) for name, rows in self.rows.items()}, len(self)
            ),
            len(self),
        )[0]

    def each(self) -> list[Scores]:
        """Scores of each image."""
        return _scores(score_sums(self.rows, 1), 1)

    def of(self, pictures: Sequence[int]) -> "CorpusStats":
        """The tally of some images alone: CIDEr weighs words by their references and no others."""
        candidates, references = (
            [self.candidates[one] for one in pictures],
            [self.references[one] for one in pictures],
        )
        rows = {name: rows[list(pictures)] for name, rows in self.rows.items()}
        return replace(
            self,
            rows={**rows, "cider": _column(cider(candidates, references))},
            candidates=candidates,
            references=references,
        )


def collect_stats(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = ptb.tokenize,
    extra: Iterable[ExtraMetric] = (),
) -> CorpusStats:
    """Count what the metrics need of each image; arguments and errors are those of `measure`."""
    if not candidates:
        raise DataError(
            "there is nothing to measure: give at least one caption with its references"
        )
    if len(candidates) != len(references):
        raise DataError(
            f"{len(candidates)} captions and references of {len(references)} images: give as many of both"
        )
    if bare := [number for number, of_picture in enumerate(references, start=1) if not of_picture]:
        raise DataError(
            f"image {bare[0]} has no references to compare with: give it at least one, or leave it out"
        )
    found = [tokenize(candidate) for candidate in candidates]
    known = [[tokenize(reference) for reference in of_picture] for of_picture in references]
    rows = {"rouge_l": _column([rouge_l(*pair) for pair in zip(found, known, strict=True)])}
    found, known = (
        [_apart(tokens) for tokens in found],
        [[_apart(tokens) for tokens in of_picture] for of_picture in known],
    )
    rows["bleu"] = np.stack([count_matches(*pair).row() for pair in zip(found, known, strict=True)])
    rows["cider"] = _column(cider(found, known))
    if "meteor" in extra:
        rows["meteor"] = java.meteor_rows(found, known)
    if "spice" in extra:
        rows["spice"] = _column(java.spice(found, known)[1])
    return CorpusStats(rows, found, known)


def score_sums(sums: dict[str, Floats], pictures: int | Floats) -> dict[str, Floats]:
    """Scores, (R,) by name, of R corpora of so many images, from the sums of their images' rows, (R, …) by metric."""
    bleus = bleu_of_rows(sums["bleu"])
    scores = {f"bleu{order + 1}": bleus[:, order] for order in range(bleus.shape[1])}
    scores |= {name: sums[name][:, 0] / pictures for name in ("rouge_l", "cider")}
    if "meteor" in sums:
        scores["meteor"] = java.meteor_of_rows(sums["meteor"])
    if "spice" in sums:
        scores["spice"] = sums["spice"][:, 0] / pictures
    return scores


def _scores(scores: dict[str, Floats], pictures: int) -> list[Scores]:
    return [
        Scores(**dict(zip(scores, map(float, values), strict=True)), num_pictures=pictures)
        for values in zip(*scores.values(), strict=True)
    ]


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)[:, None]


def _apart(tokens: list[str]) -> list[str]:
    """MetricTokenizer such as `2 1/2`, which hold a no-break space, are two to the evaluator's BLEU and CIDEr, though one to its ROUGE."""
    return " ".join(tokens).split()
