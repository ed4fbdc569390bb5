"""How good captions are, as the field measures it, without Java but for METEOR and SPICE."""

from cutline.config import ExtraMetric, MetricTokenizer
from cutline.metrics.diversity import Diversity, measure_diversity
from cutline.metrics.java import check_extra_metrics
from cutline.metrics.measure import measure
from cutline.metrics.scores import Scores
from cutline.metrics.significance import (
    Difference,
    Interval,
    bootstrap,
    check_resamples,
    compare_stats,
)
from cutline.metrics.stats import CorpusStats, collect_stats
from cutline.metrics.tokenizers import choose_tokenizer

__all__ = [
    "CorpusStats",
    "Difference",
    "Diversity",
    "ExtraMetric",
    "Interval",
    "MetricTokenizer",
    "Scores",
    "bootstrap",
    "check_extra_metrics",
    "check_resamples",
    "choose_tokenizer",
    "collect_stats",
    "compare_stats",
    "measure",
    "measure_diversity",
]
