"""Compare two files of captions of the same images: which is better, and whether that can be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutline.config import Columns, ExtraMetric, MetricTokenizer
from cutline.data import Sample, open_data
from cutline.errors import DataError
from cutline.evaluation.caption_file import read_captions
from cutline.evaluation.matching import join_references, list_unpaired, match_captions
from cutline.metrics import (
    Difference,
    Scores,
    check_extra_metrics,
    check_resamples,
    choose_tokenizer,
    collect_stats,
    compare_stats,
)

METRICS = {"rouge_l": "ROUGE-L", "cider": "CIDEr", "meteor": "METEOR", "spice": "SPICE"} | {
    f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)
}
SURE = 0.05
"""a difference with a smaller p-value is called one"""


@dataclass(frozen=True)
class ComparedImage:
    """One image with both its captions."""

    sample: Sample
    captions: tuple[str, str]
    scores: tuple[Scores, Scores]

    @property
    def gain(self) -> float:
        """CIDEr of the second less that of the first."""
        return self.scores[1].cider - self.scores[0].cider


@dataclass(frozen=True)
class Comparison:
    """What `compare_captions` found."""

    names: tuple[str, str]
    """what the two are called"""
    differences: dict[str, Difference]
    """by metric, over all images"""
    pictures: list[ComparedImage]
    left_out: list[str]
    """one sentence for each caption or image that was not compared, though a file has it"""
    num_untouched: int = 0
    """images with references that neither file has: usual where a part of the data was captioned"""

    def verdict(self) -> str:
        """One sentence: who is better in what, and in what no difference can be told (p of 0.05 or more)."""
        told = {name: one for name, one in self.differences.items() if one.p_value < SURE}
        clauses = [
            f"{who} is better in {_listed([f'{METRICS[name]} (+{abs(one.value):.2g}, {_p(one.p_value)})' for name, one in better.items()])}"
            for who, better in (
                (self.names[1], {name: one for name, one in told.items() if one.value > 0}),
                (self.names[0], {name: one for name, one in told.items() if one.value < 0}),
            )
            if better
        ]
        if alike := [METRICS[name] for name in self.differences if name not in told]:
            clauses.append(f"no difference in {_listed(alike, 'or')} can be told")
        sentence = "; ".join(clauses) + "."
        return sentence.replace("no", "No", 1) if sentence.startswith("no difference") else sentence

    def say_untouched(self) -> str:
        """One sentence of the images that neither file has."""
        return f"{self.num_untouched:,} images with references have a caption in neither file."

    def numbers(self) -> dict[str, Any]:
        """All but the images, as JSON has it."""
        values = {
            name: {
                "a": one.first,
                "b": one.second,
                "difference": one.value,
                "interval": list(one.interval),
                "p_value": one.p_value,
            }
            for name, one in self.differences.items()
        }
        return {
            "a": self.names[0],
            "b": self.names[1],
            "num_pictures": len(self.pictures),
            "differences": values,
            "verdict": self.verdict(),
            "left_out": self.left_out,
            "num_untouched": self.num_untouched,
        }


def compare_captions(
    first: str | Path,
    second: str | Path,
    references: str | Path | Sequence[Sample],
    *,
    image_root: str = "",
    split: str = "",
    columns: Columns = Columns(),  # frozen
    tokens: MetricTokenizer = "auto",
    metrics: Sequence[ExtraMetric] = (),
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Measure two files of captions on the images that both have, and write_outputs whether they differ.

    Args:
        first: captions, JSON Lines or CSV, as `cutline caption -o` and `cutline evaluate -o` write them.
        second: captions of the same images.
        references: the data set with the captions that people wrote, or its samples.
        image_root: the folder that the references' image paths are relative to (default: their file's own).
        split: split of the references, as `open_data` takes it (default: all of them).
        columns: of references in a table, where they are called otherwise than usual.
        tokens: what counts as a word: "ptb", "words", "characters", or "auto", which sees by the references.
        metrics: more metrics, "meteor" and "spice": English only, from `cutline[coco]`, in Java.
        resamples: resamples for the intervals, and trials for the p-values; see `compare_stats` for both.
        seed: the same seed gives the same intervals.

    Raises:
        DataError: a file cannot be read, or the two have no image with references in common.
        ConfigError: what `metrics` need is not installed, or `resamples` is below 1.
    """
    check_extra_metrics(metrics)
    check_resamples(resamples)
    samples = (
        open_data(references, image_root, split, columns)
        if isinstance(references, str | Path)
        else references
    )
    samples = join_references(sample for sample in samples if sample.captions)
    names = _short_names(str(first), str(second))
    (ours, left), (theirs, lost) = (
        match_captions(read_captions(Path(path)), samples, str(path)) for path in (first, second)
    )
    left_out = [*left, *lost, *list_unpaired(samples, ours, theirs, (str(first), str(second)))]
    both = [place for place in ours if place in theirs]
    if not both:
        raise DataError(
            f"{first} and {second} have no image with references in common: check their paths and `references`"
        )
    known = [samples[place].captions for place in both]
    tokenize = choose_tokenizer(tokens, (text for of_picture in known for text in of_picture))
    tallies = [
        collect_stats([side[place] for place in both], known, tokenize, metrics)
        for side in (ours, theirs)
    ]
    pictures = [
        ComparedImage(samples[place], (ours[place], theirs[place]), scores)
        for place, scores in zip(
            both, zip(tallies[0].each(), tallies[1].each(), strict=True), strict=True
        )
    ]
    untouched = len(samples) - len(ours.keys() | theirs.keys())
    return Comparison(
        names, compare_stats(tallies[0], tallies[1], resamples, seed), pictures, left_out, untouched
    )


def _short_names(first: str, second: str) -> tuple[str, str]:
    """The names of the files, as short as they can be told apart."""
    for short in (Path(first).stem, Path(second).stem), (Path(first).name, Path(second).name):
        if short[0] != short[1]:
            return short
    return first, second


def _listed(items: Sequence[str], last: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
