"""How good captions are, as the field measures it, without Java but for METEOR and SPICE."""

from cutline.config import ExtraMetric, Tokens
from cutline.metrics.diversity import Diversity, measure_diversity
from cutline.metrics.java import check_extra
from cutline.metrics.measure import measure
from cutline.metrics.resample import Difference, Interval, bootstrap, check_resamples, compare_tallies
from cutline.metrics.scores import Scores
from cutline.metrics.tally import Tally, tally_captions
from cutline.metrics.tokens import choose_tokens

__all__ = [
    "Difference",
    "Diversity",
    "ExtraMetric",
    "Interval",
    "Scores",
    "Tally",
    "Tokens",
    "bootstrap",
    "check_extra",
    "check_resamples",
    "choose_tokens",
    "compare_tallies",
    "measure",
    "measure_diversity",
    "tally_captions",
]
