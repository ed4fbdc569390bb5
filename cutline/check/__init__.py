"""Read a data set and say what is wrong with it, before hours are spent."""

from cutline.check.findings import HARMFUL, KINDS, Finding, Findings, Histogram
from cutline.check.report import write_check_report
from cutline.check.run import check
from cutline.check.summary import summarize

__all__ = [
    "HARMFUL",
    "KINDS",
    "Finding",
    "Findings",
    "Histogram",
    "check",
    "summarize",
    "write_check_report",
]
