"""Measure captions of samples: scores, by image, domain and group, intervals, and words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from cutline.batching import Caption
from cutline.config import MetricConfig
from cutline.data import Sample
from cutline.metrics import (
    CorpusStats,
    Diversity,
    Histogram,
    Interval,
    Scores,
    WordUsages,
    bootstrap_intervals,
    choose_tokenizer,
    collect_stats,
    compute_diversity,
    compute_word_usage,
)


@dataclass(frozen=True)
class Measurements:
    """The parts of an `Evaluation` that the main process computes for all."""

    scores: Scores
    image_scores: list[Scores]
    diversity: Diversity
    domains: dict[str, Scores]
    groups: dict[str, Scores]
    intervals: dict[str, Interval]
    word_usage: WordUsages
    caption_lengths: Histogram
    reference_lengths: Histogram


def measure_captions(
    captioned: Sequence[tuple[Sample, Caption]],
    config: MetricConfig,
    train_captions: Iterable[str] | None = None,
) -> Measurements:
    """Measure captions of samples against the samples' own captions.

    Args:
        captioned: Samples with references, and their new captions.
        config: How to measure.
        train_captions: Captions of the training data, to measure how many captions are novel.
    """
    references = [sample.captions for sample, _ in captioned]
    tokenize = choose_tokenizer(config.metric_tokenizer, chain.from_iterable(references))
    captions = [caption.text for _, caption in captioned]
    stats = collect_stats(captions, references, tokenize, config.metrics)
    train_tokens = None if train_captions is None else [tokenize(text) for text in train_captions]
    return Measurements(
        scores=stats.score_corpus(),
        image_scores=stats.score_images(),
        diversity=compute_diversity(stats.candidates, train_tokens),
        domains=_score_domains(stats, [sample.domain for sample, _ in captioned]),
        groups=stats.score_groups([sample.group for sample, _ in captioned]),
        intervals=bootstrap_intervals(stats, config.resamples) if config.resamples else {},
        word_usage=compute_word_usage(stats.candidates, stats.references),
        caption_lengths=Histogram.from_values(map(len, stats.candidates)),
        reference_lengths=Histogram.from_values(map(len, chain.from_iterable(stats.references))),
    )


def _score_domains(stats: CorpusStats, domains: Sequence[str]) -> dict[str, Scores]:
    """Score the images of each domain as a corpus of their own.

    The document frequencies of CIDEr are those of the domain, as in evaluations with an annotation
    file per domain. NoCaps (Agrawal et al., 2019) does the same, and scores all images with a file
    of all references.
    """
    scores = {}
    for name in sorted(set(domains) - {""}):
        indices = [index for index, domain in enumerate(domains) if domain == name]
        scores[name] = stats.select(indices).score_corpus()
    return scores
