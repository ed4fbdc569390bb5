"""Training of captioners and matchers, and diagnostics that run before it."""

from cutline.interrupt import Interrupted
from cutline.training.diagnostics.dry_run import dry_run
from cutline.training.diagnostics.dry_run_result import DryRunResult
from cutline.training.diagnostics.inspect_batch import inspect_first_batch
from cutline.training.diagnostics.lr_finder import LrRangeResult, run_lr_range_test
from cutline.training.diagnostics.lr_report import (
    describe_lr_test,
    lr_report_path,
    write_lr_report,
)
from cutline.training.diagnostics.overfit import overfit
from cutline.training.diagnostics.overfit_result import OverfitResult
from cutline.training.loop.loop import train
from cutline.training.run.log import read_log

__all__ = [
    "DryRunResult",
    "Interrupted",
    "LrRangeResult",
    "OverfitResult",
    "describe_lr_test",
    "dry_run",
    "inspect_first_batch",
    "lr_report_path",
    "overfit",
    "read_log",
    "run_lr_range_test",
    "train",
    "write_lr_report",
]
