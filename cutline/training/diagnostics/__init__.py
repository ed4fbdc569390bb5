"""Rehearsals of a training run: short runs that answer a question and keep nothing."""

from cutline.training.diagnostics.dry_run import DryRun, dry_run
from cutline.training.diagnostics.lr_finder import (
    LrRange,
    lr_range,
    lr_report_path,
    write_lr_report,
)
from cutline.training.diagnostics.overfit import Overfit, overfit

__all__ = [
    "DryRun",
    "LrRange",
    "Overfit",
    "dry_run",
    "lr_range",
    "lr_report_path",
    "overfit",
    "write_lr_report",
]
