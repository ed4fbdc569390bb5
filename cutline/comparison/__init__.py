"""Two files of captions of the same pictures: which is better, and whether that can be told."""

from cutline.comparison.compare import Compared, Comparison, compare_captions
from cutline.comparison.sheet import write_sheet

__all__ = ["Compared", "Comparison", "compare_captions", "write_sheet"]
