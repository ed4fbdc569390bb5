"""Training a captioner."""

from cutline.training.diagnostics import (
    DryRun,
    LrRange,
    Overfit,
    dry_run,
    lr_range,
    lr_report_path,
    overfit,
    write_lr_report,
)
from cutline.training.diagnostics.inspect_batch import inspect_first_batch
from cutline.training.loop.interrupt import Interrupted
from cutline.training.loop.loop import train
from cutline.training.run.log import read_log

__all__ = [
    "DryRun",
    "Interrupted",
    "LrRange",
    "Overfit",
    "dry_run",
    "lr_range",
    "lr_report_path",
    "overfit",
]
__all__ += ["read_log", "inspect_first_batch", "train", "write_lr_report"]
