"""Read a data set and say what is wrong with it, before hours are spent."""

from cutline.check.findings import HARMFUL, KINDS, Finding, Findings, Spread
from cutline.check.inspection import check
from cutline.check.sheet import write_sheet
from cutline.check.summary import summarize

__all__ = ["HARMFUL", "KINDS", "Finding", "Findings", "Spread", "check", "summarize", "write_sheet"]
