"""Settings of caption metrics."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.validation import Settings, require_at_least

MetricTokenizer = Literal["auto", "ptb", "words", "characters"]
"""ptb: Penn Treebank tokens, as in the COCO evaluator; words: text between spaces and punctuation;
characters: each character of a script without spaces; auto: characters if most letters of the
reference captions belong to such scripts, else ptb"""

ExtraMetric = Literal["meteor", "spice"]
"""metrics for English that run in Java"""

MAX_RESAMPLES = 1_000_000
"""bootstrap resamples, whose scores are in memory together"""


@dataclass(frozen=True)
class MetricConfig(Settings):
    """Caption metrics: tokenizer, additional metrics and confidence intervals."""

    metric_tokenizer: MetricTokenizer = "auto"
    """what counts as a word: ptb (English, as in the COCO evaluator), words (between spaces and
    punctuation), characters (for Chinese, Japanese, Thai …), or auto, which depends on the script
    of the reference captions"""
    metrics: tuple[ExtraMetric, ...] = ()
    """additional metrics for English: meteor, spice; they need Java and `pip install
    'cutline[coco]'`"""
    resamples: int = 0
    """bootstrap resamples of the images for 95 % confidence intervals, usually 1000 (0: none)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "resamples", maximum=MAX_RESAMPLES)
