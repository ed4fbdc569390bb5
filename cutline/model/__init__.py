"""The networks: PyTorch modules that map tensors to tensors, without tokenizer or files."""

from cutline.model.caption import CaptionLoss, CaptionModel, make_lm_labels
from cutline.model.vision import interpolate_positions

__all__ = ["CaptionLoss", "CaptionModel", "interpolate_positions", "make_lm_labels"]
