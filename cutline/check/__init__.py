"""Check a dataset before training: images, captions, duplicates, and leaks between splits."""

from cutline.check.findings import CheckResult, Finding, ImageSize
from cutline.check.kinds import ERRORS, KINDS, Kind
from cutline.check.report import write_check_report
from cutline.check.run import check_data
from cutline.check.summary import summarize

__all__ = [
    "ERRORS",
    "KINDS",
    "CheckResult",
    "Finding",
    "ImageSize",
    "Kind",
    "check_data",
    "summarize",
    "write_check_report",
]
