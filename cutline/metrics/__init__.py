"""How good captions are, as the field measures it, without Java."""

from cutline.metrics.measure import Scores, measure

__all__ = ["Scores", "measure"]
