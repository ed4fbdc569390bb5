"""The networks: PyTorch modules that map tensors to tensors, without tokenizer or files."""

from cutline.model.caption import CaptionLoss, CaptionModel, make_lm_labels
from cutline.model.vision import interpolate_pos_embed

__all__ = ["CaptionLoss", "CaptionModel", "interpolate_pos_embed", "make_lm_labels"]
