"""Training a captioner."""

from cutline.training.interrupt import Interrupted
from cutline.training.log import read_log
from cutline.training.loop import train
from cutline.training.show import show_first_batch

__all__ = ["Interrupted", "read_log", "show_first_batch", "train"]
