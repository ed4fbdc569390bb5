"""Caption metrics: BLEU, ROUGE-L, CIDEr and diversity; METEOR and SPICE run in Java."""

from cutline.metrics.diversity import Diversity, compute_diversity
from cutline.metrics.java import check_extra_metrics
from cutline.metrics.significance import (
    Difference,
    Interval,
    bootstrap_intervals,
    check_resamples,
    compare_stats,
)
from cutline.metrics.stats import (
    METRIC_NAMES,
    CorpusStats,
    Scores,
    collect_stats,
    compute_metrics,
)
from cutline.metrics.tokenizers import choose_tokenizer

__all__ = [
    "METRIC_NAMES",
    "CorpusStats",
    "Difference",
    "Diversity",
    "Interval",
    "Scores",
    "bootstrap_intervals",
    "check_extra_metrics",
    "check_resamples",
    "choose_tokenizer",
    "collect_stats",
    "compare_stats",
    "compute_diversity",
    "compute_metrics",
]
