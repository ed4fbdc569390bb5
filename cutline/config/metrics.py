"""How captions are measured."""

from typing import Literal

MetricTokenizer = Literal["auto", "ptb", "words", "characters"]
"""what counts as a word: Penn Treebank tokens, as the field's evaluator has them (ptb); what stands between spaces and punctuation
(words); each character of a script without spaces (characters); auto is characters where the references are mostly such, else ptb"""

ExtraMetric = Literal["meteor", "spice"]
"""metrics of English that run in Java"""
