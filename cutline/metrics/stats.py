"""Scores of a corpus and of its images, and the statistics per image that they are computed from.

With these statistics, any selection of images can be scored without tokenizing the captions again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from cutline.config import ExtraMetric
from cutline.errors import DataError
from cutline.metrics import java, ptb
from cutline.metrics.bleu import Tokens, compute_bleu, count_matches
from cutline.metrics.cider import compute_cider, compute_similarities
from cutline.metrics.rouge import compute_rouge_l
from cutline.metrics.tokenizers import Tokenize

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRIC_NAMES = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "meteor": "METEOR",
    "spice": "SPICE",
}
"""display names of the metrics"""


@dataclass(frozen=True)
class Scores:
    """Scores of a corpus or of one of its images; CIDEr is in [0, 10], the others in [0, 1]."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider: float
    num_images: int
    meteor: float | None = None
    """None if it was not requested"""
    spice: float | None = None
    """None if it was not requested"""

    def to_dict(self) -> dict[str, float | int]:
        """Return the scores by name, without those not requested, and `num_pictures` last."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        num_images = values.pop("num_images")
        return {**values, "num_pictures": num_images}


@dataclass(frozen=True)
class CorpusStats:
    """Statistics of each image of a corpus; their sums over images give the scores."""

    image_stats: dict[str, Floats]
    """by metric, (N, C): C is 10 counts for bleu, 23 counts for meteor, and the score of the image
    for rouge_l, cider and spice"""
    candidates: Sequence[Tokens]
    """the tokens of each candidate"""
    references: Sequence[Sequence[Tokens]]
    """the tokens of each image's references"""
    similarities: Sequence[Sequence[float]]
    """CIDEr's similarity of each candidate to each of its references, from 0 to 1; ten times their
    mean is the CIDEr of the image"""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.candidates)

    def sum(self) -> dict[str, Floats]:
        """Return the sums of the statistics over all images, (1, C) by metric."""
        return {name: stats.sum(0, keepdims=True) for name, stats in self.image_stats.items()}

    def score_corpus(self) -> Scores:
        """Return the scores of the corpus."""
        return _make_scores(compute_scores(self.sum(), len(self)), len(self))[0]

    def score_images(self) -> list[Scores]:
        """Return the scores of each image."""
        return _make_scores(compute_scores(self.image_stats, 1), 1)

    def score_groups(self, groups: Sequence[str]) -> dict[str, Scores]:
        """Return the scores of each group of images, by name.

        They are those of a corpus of its images, except that the document frequencies of CIDEr are
        those of all images, so that the CIDEr of a group is the mean of its images'. Frequencies of
        its own would be meaningless in a small group: a word of all of its images has no weight.

        Args:
            groups: The group of each image; "" for none.
        """
        numbers = {name: number for number, name in enumerate(sorted({*groups} - {""}))}
        images = [image for image, name in enumerate(groups) if name]
        rows = np.array([numbers[groups[image]] for image in images], np.int64)
        num_images = np.bincount(rows, minlength=len(numbers))
        sums = {}
        for metric, stats in self.image_stats.items():
            sums[metric] = np.zeros((len(numbers), stats.shape[1]))
            np.add.at(sums[metric], rows, stats[images])
        scores = _make_scores(compute_scores(sums, num_images), num_images)
        return dict(zip(numbers, scores, strict=True))

    def select(self, indices: Sequence[int]) -> "CorpusStats":
        """Return the statistics of a corpus of some of the images.

        The document frequencies of CIDEr are those of these images alone.
        """
        candidates = [self.candidates[index] for index in indices]
        references = [self.references[index] for index in indices]
        stats = {name: stats[list(indices)] for name, stats in self.image_stats.items()}
        similarities = compute_similarities(candidates, references)
        stats["cider"] = _make_column(compute_cider(similarities))
        return CorpusStats(stats, candidates, references, similarities)


def compute_metrics(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = ptb.tokenize,
    extra_metrics: Sequence[ExtraMetric] = (),
) -> tuple[Scores, list[Scores]]:
    """Score one candidate per image against the references of that image.

    Args:
        candidates: A caption per image; it may be empty.
        references: The reference captions of each image, at least one.
        tokenize: Splits a text into words; `choose_tokenizer` returns one for any language.
        extra_metrics: "meteor" and "spice", which are for English, run in Java, and need
            `cutline[coco]`.

    Returns:
        The scores of the corpus, and those of each image in order. CIDEr weights words by their
        frequency in all references, so the score of an image depends on the other images.

    Raises:
        DataError: There are no images, one has no references, or the lengths differ.
        ConfigError: An extra metric is not installed.
        CutlineError: The program of an extra metric failed.
    """
    stats = collect_stats(candidates, references, tokenize, extra_metrics)
    return stats.score_corpus(), stats.score_images()


def collect_stats(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = ptb.tokenize,
    extra_metrics: Sequence[ExtraMetric] = (),
) -> CorpusStats:
    """Collect the statistics of each image; arguments and errors are those of `compute_metrics`."""
    _check_lengths(candidates, references)
    tokens = [tokenize(candidate) for candidate in candidates]
    reference_tokens = [[tokenize(reference) for reference in texts] for texts in references]
    stats = {"rouge_l": _make_column(list(map(compute_rouge_l, tokens, reference_tokens)))}
    # Tokens such as `2 1/2` contain a no-break space. The evaluator's BLEU and CIDEr split them
    # there, and its ROUGE does not.
    tokens = list(map(split_at_spaces, tokens))
    reference_tokens = [list(map(split_at_spaces, texts)) for texts in reference_tokens]
    matches = map(count_matches, tokens, reference_tokens)
    stats["bleu"] = np.stack([image.to_array() for image in matches])
    similarities = compute_similarities(tokens, reference_tokens)
    stats["cider"] = _make_column(compute_cider(similarities))
    if "meteor" in extra_metrics:
        stats["meteor"] = java.count_meteor_matches(tokens, reference_tokens)
    if "spice" in extra_metrics:
        stats["spice"] = _make_column(java.compute_spice(tokens, reference_tokens))
    return CorpusStats(stats, tokens, reference_tokens, similarities)


def _check_lengths(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not candidates:
        raise DataError("there are no captions to measure: give at least one with its references")
    if len(candidates) != len(references):
        raise DataError(
            f"{len(candidates)} captions, but references of {len(references)} images: "
            "give as many of both"
        )
    for number, texts in enumerate(references, start=1):
        if not texts:
            raise DataError(f"image {number} has no references: give at least one, or remove it")


def compute_scores(sums: dict[str, Floats], num_images: int | Ints) -> dict[str, Floats]:
    """Compute the scores of R corpora.

    Args:
        sums: Statistics summed over the images of each corpus, (R, C) by metric.
        num_images: Number of images of every corpus, or of each, (R,).

    Returns:
        The scores, (R,) by name.
    """
    bleu = compute_bleu(sums["bleu"])
    scores = {f"bleu{order + 1}": bleu[:, order] for order in range(bleu.shape[1])}
    scores |= {name: sums[name][:, 0] / num_images for name in ("rouge_l", "cider")}
    if "meteor" in sums:
        scores["meteor"] = java.compute_meteor(sums["meteor"])
    if "spice" in sums:
        scores["spice"] = sums["spice"][:, 0] / num_images
    return scores


def _make_scores(scores: dict[str, Floats], num_images: int | Ints) -> list[Scores]:
    counts = np.broadcast_to(num_images, len(scores["cider"]))
    return [
        Scores(**dict(zip(scores, map(float, values), strict=True)), num_images=int(count))
        for count, *values in zip(counts, *scores.values(), strict=True)
    ]


def _make_column(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)[:, None]


def split_at_spaces(tokens: Sequence[str]) -> list[str]:
    """Split tokens at the spaces in them."""
    return " ".join(tokens).split()
