"""Heat-maps over an image for the words of its caption: where the captioner looked."""

from cutline.explanation.explain import explain
from cutline.explanation.explainer import EXPLAIN_ARGUMENTS, ExplainedImage, Explainer
from cutline.explanation.explanation import Explanation, HeatMap, WordMap

__all__ = [
    "EXPLAIN_ARGUMENTS",
    "ExplainedImage",
    "Explainer",
    "Explanation",
    "HeatMap",
    "WordMap",
    "explain",
]
