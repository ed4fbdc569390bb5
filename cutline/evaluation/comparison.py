"""Compare two files of captions of the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cutline.config import DataSource, MetricConfig
from cutline.config.validation import require
from cutline.data import Sample, open_references
from cutline.errors import DataError
from cutline.evaluation.caption_file import read_captions
from cutline.evaluation.matching import list_unpaired, match_captions, merge_references
from cutline.messages import count_noun
from cutline.metrics import (
    METRIC_NAMES,
    CorpusStats,
    Difference,
    Interval,
    Scores,
    check_extra_metrics,
    check_resamples,
    choose_tokenizer,
    collect_stats,
    compare_stats,
    compute_t_interval,
)
from cutline.metrics.cider import SCALE

SIGNIFICANCE_LEVEL = 0.05
"""a difference with a smaller p-value is significant"""
_ROUNDING = 1e-9  # captions with the same words in another order differ by rounding


@dataclass(frozen=True)
class ComparedImage:
    """An image with its two captions and their scores."""

    sample: Sample
    captions: tuple[str, str]
    """the caption in each file"""
    scores: tuple[Scores, Scores]
    """the scores of each caption"""
    reference_differences: tuple[float, ...]
    """CIDEr of the second caption minus that of the first against each reference alone; their mean
    is `cider_difference`"""

    @property
    def cider_difference(self) -> float:
        """Return the CIDEr of the second caption minus that of the first."""
        return self.scores[1].cider - self.scores[0].cider

    @property
    def difference_interval(self) -> Interval | None:
        """Return the 95 % paired t-interval of the difference in CIDEr over references.

        It is where the mean difference may lie if other people had written the references; None of
        fewer than three. As references are few and their differences not normal, it is a rough
        one, and in 1 of 20 images without a difference it excludes 0 by chance.
        """
        return compute_t_interval(self.reference_differences)

    @property
    def is_beyond_noise(self) -> bool | None:
        """Return whether the interval excludes 0; None if there are too few references to know."""
        if self.captions[0] == self.captions[1]:
            return False
        if (interval := self.difference_interval) is None:
            return None
        return interval[0] > _ROUNDING or interval[1] < -_ROUNDING


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_captions`."""

    names: tuple[str, str]
    """display names of the two files"""
    differences: dict[str, Difference]
    """by metric, over all images"""
    images: list[ComparedImage]
    left_out: list[str]
    """a message for each caption or image that is in a file but was not compared"""
    num_uncaptioned: int = 0
    """number of images with references that are in neither file, as when only a part of the data
    was captioned"""

    @property
    def verdict(self) -> str:
        """Return a sentence: which file is better in which metrics, and where neither is.

        A difference counts if its p-value is below 0.05.
        """
        significant = {
            name: difference
            for name, difference in self.differences.items()
            if difference.p_value < SIGNIFICANCE_LEVEL
        }
        clauses = []
        for file, sign in ((self.names[1], 1), (self.names[0], -1)):
            improvements = [
                f"{METRIC_NAMES[name]} (+{abs(difference.value):.2g}, "
                f"{_format_p_value(difference.p_value)})"
                for name, difference in significant.items()
                if sign * difference.value > 0
            ]
            if improvements:
                clauses.append(f"{file} is better in {_join_words(improvements, 'and')}")
        insignificant = [METRIC_NAMES[name] for name in self.differences if name not in significant]
        if insignificant:
            article = "no" if clauses else "No"
            metrics = _join_words(insignificant, "or")
            clauses.append(f"{article} significant difference in {metrics}")
        return "; ".join(clauses) + "."

    def describe_uncaptioned(self) -> str:
        """Return a sentence on the images that are in neither file."""
        count = count_noun(
            self.num_uncaptioned, "image with references has", "images with references have"
        )
        return f"{count} no caption in either file."

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images, in a form that JSON can store."""
        return {
            "a": self.names[0],
            "b": self.names[1],
            "num_pictures": len(self.images),
            "differences": {
                name: {
                    "a": difference.first,
                    "b": difference.second,
                    "difference": difference.value,
                    "interval": list(difference.interval),
                    "p_value": difference.p_value,
                }
                for name, difference in self.differences.items()
            },
            "verdict": self.verdict,
            "left_out": self.left_out,
            "num_untouched": self.num_uncaptioned,  # keys of the JSON stay as they are
        }


def compare_captions(
    first: str | Path,
    second: str | Path,
    references: DataSource | str | Path | Sequence[Sample],
    *,
    metrics: MetricConfig = MetricConfig(resamples=10_000),  # noqa: B008  # frozen
    seed: int = 0,
) -> Comparison:
    """Compare two files of captions on the images that both contain.

    Args:
        first: A caption file, as `evaluate_captions` takes it.
        second: Other captions of the same images.
        references: The dataset with the reference captions, or its samples; the images need not
            exist.
        metrics: How to measure, and the number of resamples for the intervals and of trials for
            the p-values; see `compare_stats`.
        seed: Seed of the resamples and trials.

    Returns:
        The scores of both files, their differences, and the images that were compared.

    Raises:
        DataError: A file cannot be read, or the two have no image with references in common.
        ConfigError: A metric is not installed, the number of resamples is below 1, or the seed is
            negative.
    """
    check_extra_metrics(metrics.metrics)
    check_resamples(metrics.resamples)
    require(seed >= 0, f"seed must be at least 0, not {seed}")
    if isinstance(references, DataSource | str | Path):
        references = open_references(references)
    samples = merge_references(sample for sample in references if sample.captions)
    paths = str(first), str(second)
    matches = [match_captions(read_captions(Path(path)), samples, path) for path in paths]
    captions = matches[0].captions, matches[1].captions
    left_out = [*matches[0].left_out, *matches[1].left_out]
    left_out += list_unpaired(samples, captions, paths)
    common = [index for index in captions[0] if index in captions[1]]
    if not common:
        raise DataError(
            f"{first} and {second} have no image with references in common: "
            "check the image paths or ids in them, and `references`"
        )
    pairs = [(captions[0][index], captions[1][index]) for index in common]
    images, differences = _compare_pairs([samples[i] for i in common], pairs, metrics, seed)
    num_uncaptioned = len(samples) - len(captions[0].keys() | captions[1].keys())
    return Comparison(_shorten_names(*paths), differences, images, left_out, num_uncaptioned)


def _compare_pairs(
    samples: Sequence[Sample],
    captions: Sequence[tuple[str, str]],
    metrics: MetricConfig,
    seed: int,
) -> tuple[list[ComparedImage], dict[str, Difference]]:
    """Compare the two captions of each sample."""
    references = [sample.captions for sample in samples]
    tokenize = choose_tokenizer(metrics.metric_tokenizer, chain.from_iterable(references))
    first, second = (
        collect_stats([pair[side] for pair in captions], references, tokenize, metrics.metrics)
        for side in (0, 1)
    )
    scores = zip(first.score_images(), second.score_images(), strict=True)
    differences = _subtract_ciders(first, second)
    images = list(map(ComparedImage, samples, captions, scores, differences))
    return images, compare_stats(first, second, metrics.resamples, seed)


def _subtract_ciders(first: CorpusStats, second: CorpusStats) -> list[tuple[float, ...]]:
    """Return `second - first` of each image against each of its references."""
    return [
        tuple(SCALE * (other - one) for one, other in zip(*pair, strict=True))
        for pair in zip(first.similarities, second.similarities, strict=True)
    ]


def _shorten_names(first: str, second: str) -> tuple[str, str]:
    """Return the shortest names that distinguish two files: stems, file names or paths."""
    for names in (Path(first).stem, Path(second).stem), (Path(first).name, Path(second).name):
        if names[0] != names[1]:
            return names
    return first, second


def _join_words(words: Sequence[str], conjunction: str) -> str:
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _format_p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
