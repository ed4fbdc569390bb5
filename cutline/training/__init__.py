"""Training a captioner."""

from cutline.training.interrupt import Interrupted
from cutline.training.log import read_log
from cutline.training.loop import train
from cutline.training.rehearsal import DryRun, LrRange, Overfit, dry_run, lr_range, lr_report_path, overfit, write_lr_report
from cutline.training.show import show_first_batch

__all__ = ["DryRun", "Interrupted", "LrRange", "Overfit", "dry_run", "lr_range", "lr_report_path", "overfit"]
__all__ += ["read_log", "show_first_batch", "train", "write_lr_report"]
