"""Metrics of captioners (METEOR and SPICE run in Java) and of matchers."""

from cutline.metrics.calibration import (
    CoveragePoint,
    ReliabilityBin,
    compute_calibration_error,
    compute_reliability,
    compute_risk_coverage,
)
from cutline.metrics.classification import (
    Detection,
    bootstrap_auroc,
    compute_auroc,
    detect_wrong_pairs,
    resample_auroc,
)
from cutline.metrics.correlation import compute_spearman, resample_spearman
from cutline.metrics.diversity import Diversity, compute_diversity
from cutline.metrics.histogram import Histogram
from cutline.metrics.java import check_extra_metrics
from cutline.metrics.platt import PlattScaling, fit_platt
from cutline.metrics.quantiles import QUANTILES, compute_quantiles
from cutline.metrics.retrieval import (
    Recall,
    RetrievalScores,
    average_recall,
    count_found,
)
from cutline.metrics.significance import (
    Difference,
    Interval,
    bootstrap_intervals,
    check_resamples,
    compare_stats,
    percentile_interval,
)
from cutline.metrics.stats import (
    METRIC_NAMES,
    CorpusStats,
    Scores,
    collect_stats,
    compute_metrics,
)
from cutline.metrics.t_interval import compute_t_interval
from cutline.metrics.tokenizers import choose_tokenizer
from cutline.metrics.word_usage import WordUsage, WordUsages, compute_word_usage

__all__ = [
    "METRIC_NAMES",
    "QUANTILES",
    "CorpusStats",
    "CoveragePoint",
    "Detection",
    "Difference",
    "Diversity",
    "Histogram",
    "Interval",
    "PlattScaling",
    "Recall",
    "ReliabilityBin",
    "RetrievalScores",
    "Scores",
    "WordUsage",
    "WordUsages",
    "average_recall",
    "bootstrap_auroc",
    "bootstrap_intervals",
    "check_extra_metrics",
    "check_resamples",
    "choose_tokenizer",
    "collect_stats",
    "compare_stats",
    "compute_auroc",
    "compute_calibration_error",
    "compute_diversity",
    "compute_metrics",
    "compute_quantiles",
    "compute_reliability",
    "compute_risk_coverage",
    "compute_spearman",
    "compute_t_interval",
    "compute_word_usage",
    "count_found",
    "detect_wrong_pairs",
    "fit_platt",
    "percentile_interval",
    "resample_auroc",
    "resample_spearman",
]
